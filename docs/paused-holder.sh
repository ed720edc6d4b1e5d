# A takes the lock `ledger` and is paused, as when a virtual machine is moved. B waits, gets the lock, and
# writes. Then A wakes in the middle of its work, and writes.
play() {
    rm -f ledger .ledger.fence holding wake
    turnlock run --ttl 2 --on-lost ignore ledger -c "
        echo \$\$ >holding
        until [ -e wake ]; do sleep 0.05; done
        echo \"A, with token \$TURNLOCK_TOKEN\" | $1
        echo \"A's write ends with status \$?\"" 2>said &
    until [ -s holding ]; do sleep 0.05; done
    kill -STOP $! "$(cat holding)"
    turnlock run ledger -c "echo \"B, with token \$TURNLOCK_TOKEN\" | $1"
    echo "B has written:  $(cat ledger)"
    touch wake
    kill -CONT "$(cat holding)" $!
    wait $!
    echo "A has ended:    $(cat ledger)"
    grep stale said
}

echo '--- without a fence'
play 'cat >ledger'
echo '--- with a fence'
play 'turnlock write ledger ledger'
