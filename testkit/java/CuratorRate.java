import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.retry.RetryOneTime;

/**
 * Measures Curator's InterProcessMutex: how many turns a second so many contenders take on one lock, each with
 * a session of its own, and how long a turn takes. Prints one line of JSON.
 *
 * Usage: CuratorRate SERVERS PATH CONTENDERS SECONDS
 */
public class CuratorRate {
    private static final long WARM_UP_SECONDS = 2;

    public static void main(String[] args) throws Exception {
        int contenders = Integer.parseInt(args[2]);
        long seconds = Long.parseLong(args[3]);
        List<Long> nanos = Collections.synchronizedList(new ArrayList<>());
        AtomicBoolean stop = new AtomicBoolean();
        CountDownLatch ready = new CountDownLatch(contenders);
        List<CuratorFramework> clients = new ArrayList<>();
        List<Thread> threads = new ArrayList<>();
        for (int i = 0; i < contenders; i++) {
            CuratorFramework client = CuratorFrameworkFactory.newClient(args[0], 30_000, 10_000, new RetryOneTime(100));
            client.start();
            clients.add(client);
            threads.add(new Thread(() -> take(new InterProcessMutex(client, args[1]), ready, nanos, stop)));
        }
        threads.forEach(Thread::start);
        ready.await();
        TimeUnit.SECONDS.sleep(WARM_UP_SECONDS);
        long started = System.nanoTime();
        nanos.clear();
        TimeUnit.SECONDS.sleep(seconds);
        List<Long> taken = new ArrayList<>();
        synchronized (nanos) {
            taken.addAll(nanos);
        }
        double elapsed = (System.nanoTime() - started) / 1e9;
        Collections.sort(taken);
        System.out.printf(
                "{\"ops\":%d,\"seconds\":%.3f,\"ops_per_s\":%.1f,\"p50_us\":%.1f,\"p99_us\":%.1f}%n",
                taken.size(), elapsed, taken.size() / elapsed, quantile(taken, 0.5), quantile(taken, 0.99));
        stop.set(true);
        for (Thread thread : threads) {
            thread.join();
        }
        clients.forEach(CuratorFramework::close);
    }

    private static double quantile(List<Long> sorted, double q) {
        return sorted.get((int) (q * (sorted.size() - 1))) / 1e3;
    }

    private static void take(InterProcessMutex lock, CountDownLatch ready, List<Long> nanos, AtomicBoolean stop) {
        try {
            lock.acquire();
            lock.release();
            ready.countDown();
            while (!stop.get()) {
                long started = System.nanoTime();
                lock.acquire();
                lock.release();
                nanos.add(System.nanoTime() - started);
            }
        } catch (Exception e) {
            throw new IllegalStateException(e);
        }
    }
}
