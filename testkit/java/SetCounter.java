import java.io.File;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.zookeeper.server.DataNode;
import org.apache.zookeeper.server.DataTree;
import org.apache.zookeeper.server.persistence.FileTxnSnapLog;

/**
 * Sets the counter of a node from which its sequential children are numbered (its cversion), in the data
 * folder of a server that does not run, by ZooKeeper's own means: load all, change one number, save a snapshot.
 *
 * Usage: SetCounter DATA_FOLDER PATH NUMBER
 */
public class SetCounter {
    public static void main(String[] args) throws Exception {
        File folder = new File(args[0]);
        FileTxnSnapLog log = new FileTxnSnapLog(folder, folder);
        DataTree tree = new DataTree();
        Map<Long, Integer> sessions = new ConcurrentHashMap<>();
        log.restore(tree, sessions, (header, record, digest) -> {});
        DataNode node = tree.getNode(args[1]);
        if (node == null) {
            throw new IllegalArgumentException("there is no node " + args[1]);
        }
        node.stat.setCversion(Integer.parseInt(args[2]));
        log.save(tree, (ConcurrentHashMap<Long, Integer>) sessions, true);
        log.close();
    }
}
