import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.locks.InterProcessLock;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.retry.RetryOneTime;

/**
 * Takes turns at a counter in a folder, under a lock of Curator's: a mutex, or a read/write lock held for
 * writing or for reading.
 *
 * Usage: CuratorTurns SERVERS PATH mutex|write|read TURNS FOLDER
 */
public class CuratorTurns {
    public static void main(String[] args) throws Exception {
        int turns = Integer.parseInt(args[3]);
        Path folder = Path.of(args[4]);
        try (CuratorFramework client = CuratorFrameworkFactory.newClient(args[0], 10_000, 10_000, new RetryOneTime(100))) {
            client.start();
            InterProcessLock lock = switch (args[2]) {
                case "mutex" -> new InterProcessMutex(client, args[1]);
                case "write" -> new InterProcessReadWriteLock(client, args[1]).writeLock();
                case "read" -> new InterProcessReadWriteLock(client, args[1]).readLock();
                default -> throw new IllegalArgumentException(args[2]);
            };
            for (int turn = 0; turn < turns; turn++) {
                lock.acquire();
                if (args[2].equals("read")) {
                    look(folder);
                } else {
                    increment(folder);
                }
                lock.release();
            }
        }
    }

    /** Reads the counter, pauses, writes it back plus one. Fails if another writer is inside. */
    private static void increment(Path folder) throws Exception {
        Files.createDirectory(folder.resolve("inside"));
        int count = count(folder);
        Thread.sleep(2);
        Files.writeString(folder.resolve("counter"), (count + 1) + "\n");
        Files.delete(folder.resolve("inside"));
    }

    /** Fails if a writer is inside. */
    private static void look(Path folder) throws Exception {
        int before = count(folder);
        Thread.sleep(2);
        if (Files.exists(folder.resolve("inside")) || count(folder) != before) {
            throw new IllegalStateException("a writer is inside together with a reader");
        }
    }

    private static int count(Path folder) throws Exception {
        return Integer.parseInt(Files.readString(folder.resolve("counter")).trim());
    }
}
