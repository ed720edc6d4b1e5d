// Uses the Node client as its documentation shows it. The package brings no tests of its own.
//
// Usage: node --test uses.mjs, with the server in SERVER and the package in a parent's node_modules.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { once } from 'node:events';
import { createRequire } from 'node:module';

const { Etcd3 } = createRequire(process.env.MODULES)('etcd3');
const connect = () => new Etcd3({ hosts: process.env.SERVER });
const client = connect();
after(() => client.close());

test('values are put, read by prefix, and deleted', async () => {
  await client.put('kv/a').value('1');
  await client.put('kv/b').value('2');
  assert.equal(await client.get('kv/a').string(), '1');
  assert.deepEqual(await client.getAll().prefix('kv/').strings(), { 'kv/a': '1', 'kv/b': '2' });
  assert.deepEqual(await client.getAll().prefix('kv/').sort('Key', 'Descend').limit(1).keys(), ['kv/b']);
  assert.equal(await client.getAll().prefix('kv/').count(), 2);
  await client.delete().prefix('kv/');
  assert.equal(await client.get('kv/a').string(), null);
});

test('a transaction takes the branch that its comparisons decide on', async () => {
  const add = () =>
    client.if('txn', 'Create', '==', 0).then(client.put('txn').value('first')).else(client.get('txn')).commit();
  assert.equal((await add()).succeeded, true);
  const second = await add();
  assert.equal(second.succeeded, false);
  assert.equal(second.responses[0].response_range.kvs[0].value.toString(), 'first');
});

test('a software transaction is repeated until it was alone', async () => {
  await client.put('stm').value(0);
  const increment = () =>
    client.stm({ retries: 100 }).transact(async (tx) => {
      const value = await tx.get('stm').number();
      await tx.put('stm').value(value + 1);
    });
  await Promise.all(Array.from({ length: 5 }, increment));
  assert.equal(await client.get('stm').number(), 5);
});

test('a lease keeps its keys until it is revoked', async () => {
  const lease = client.lease(5);
  await lease.put('leased').value('here');
  const id = await lease.grant();
  const left = await client.leaseClient.leaseTimeToLive({ ID: id, keys: true });
  assert.deepEqual(left.keys.map(String), ['leased']);
  await lease.keepaliveOnce();
  await lease.revoke();
  assert.equal(await client.get('leased').string(), null);
});

test('a lease that nobody renews is lost', async () => {
  const lease = client.lease(1, { autoKeepAlive: false });
  await lease.put('short').value('here');
  const watcher = await client.watch().key('short').only('delete').create();
  assert.equal(await client.get('short').string(), 'here');
  await once(watcher, 'delete');
  await assert.rejects(lease.keepaliveOnce());
  await watcher.cancel();
});

test('a watch sees puts and deletions, with the values before', async () => {
  const watcher = await client.watch().prefix('watched/').withPreviousKV().create();
  const put = once(watcher, 'put');
  await client.put('watched/a').value('1');
  const [created] = await put;
  assert.equal(created.key.toString(), 'watched/a');
  const deletion = once(watcher, 'delete');
  await client.delete().key('watched/a');
  const [, previous] = await deletion;
  assert.equal(previous.value.toString(), '1');
  await watcher.cancel();
});

test('a watch from the past sees what happened since', async () => {
  const { header } = await client.put('past').value('1');
  await client.put('past').value('2');
  const watcher = await client.watch().key('past').startRevision(header.revision).create();
  const values = [];
  await new Promise((resolve) => {
    watcher.on('put', ({ value }) => values.push(value.toString()) === 2 && resolve());
  });
  assert.deepEqual(values, ['1', '2']);
  await watcher.cancel();
});

test('a lock has one holder at a time', async () => {
  let inside = 0;
  let turns = 0;
  const contend = async () => {
    const lock = client.lock('lock').ttl(10);
    // It does not wait: whoever finds the lock taken tries again.
    for (;;) {
      try {
        await lock.acquire();
        break;
      } catch (error) {
        if (error.constructor.name !== 'EtcdLockFailedError') throw error;
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    }
    inside += 1;
    assert.equal(inside, 1);
    await client.put('lock-turns').value(++turns);
    inside -= 1;
    await lock.release();
  };
  await Promise.all(Array.from({ length: 5 }, contend));
  assert.equal(turns, 5);
});

test('an election has one leader, whom observers see', async () => {
  const other = connect();
  const [first, second] = [client.election('vote', 5), other.election('vote', 5)];
  const campaign = first.campaign('first');
  await once(campaign, 'elected');
  assert.equal(await second.leader(), 'first');
  const waiting = second.campaign('second');
  const elected = once(waiting, 'elected');
  const observer = await first.observe();
  await campaign.proclaim('still first');
  while (observer.leader() !== 'still first') await once(observer, 'change');
  await campaign.resign();
  await elected;
  while (observer.leader() !== 'second') await once(observer, 'change');
  await observer.cancel();
  await waiting.resign();
  other.close();
});

test('a namespace hides what is outside', async () => {
  const inside = client.namespace('team/');
  await inside.put('key').value('1');
  assert.equal(await client.get('team/key').string(), '1');
  assert.deepEqual(await inside.getAll().keys(), ['key']);
});
