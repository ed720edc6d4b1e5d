import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.retry.RetryOneTime;

/**
 * Measures Curator's InterProcessMutex: how many turns a second so many contenders take on one lock, each with
 * a session of its own. Prints one line of JSON.
 *
 * Usage: CuratorRate SERVERS PATH CONTENDERS SECONDS
 */
public class CuratorRate {
    private static final long WARM_UP_SECONDS = 2;

    public static void main(String[] args) throws Exception {
        int contenders = Integer.parseInt(args[2]);
        long seconds = Long.parseLong(args[3]);
        AtomicLong turns = new AtomicLong();
        AtomicBoolean stop = new AtomicBoolean();
        CountDownLatch ready = new CountDownLatch(contenders);
        List<CuratorFramework> clients = new ArrayList<>();
        List<Thread> threads = new ArrayList<>();
        for (int i = 0; i < contenders; i++) {
            CuratorFramework client = CuratorFrameworkFactory.newClient(args[0], 30_000, 10_000, new RetryOneTime(100));
            client.start();
            clients.add(client);
            threads.add(new Thread(() -> take(new InterProcessMutex(client, args[1]), ready, turns, stop)));
        }
        threads.forEach(Thread::start);
        ready.await();
        TimeUnit.SECONDS.sleep(WARM_UP_SECONDS);
        long started = System.nanoTime();
        long before = turns.get();
        TimeUnit.SECONDS.sleep(seconds);
        long taken = turns.get() - before;
        double elapsed = (System.nanoTime() - started) / 1e9;
        System.out.printf(
                "{\"client\":\"curator\",\"contenders\":%d,\"seconds\":%.3f,\"turns\":%d,\"turns_per_second\":%.1f}%n",
                contenders, elapsed, taken, taken / elapsed);
        stop.set(true);
        for (Thread thread : threads) {
            thread.join();
        }
        clients.forEach(CuratorFramework::close);
    }

    private static void take(InterProcessMutex lock, CountDownLatch ready, AtomicLong turns, AtomicBoolean stop) {
        try {
            lock.acquire();
            lock.release();
            ready.countDown();
            while (!stop.get()) {
                lock.acquire();
                turns.incrementAndGet();
                lock.release();
            }
        } catch (Exception e) {
            throw new IllegalStateException(e);
        }
    }
}
