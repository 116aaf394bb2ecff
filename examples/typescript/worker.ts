// A worker of activities in TypeScript: npm run activities -- TASK_QUEUE LEDGER
//
// Jobs in Python call its activities with a key. The key's workflow schedules them, so they are executed once per key as
// those in Python are, and nothing of this package runs here.

import { appendFileSync } from 'node:fs';
import { activityInfo, ApplicationFailure, sleep } from '@temporalio/activity';
import { NativeConnection, Worker } from '@temporalio/worker';

const [taskQueue, ledger] = process.argv.slice(2);
if (taskQueue === undefined || ledger === undefined) {
  throw new Error('give a task queue and a file');
}

/** The key under which the effect may happen once: the activity id is `{generation}:{idempotency key}`. */
function idempotencyKey(): string {
  const { activityId } = activityInfo();
  return activityId.slice(activityId.indexOf(':') + 1);
}

/** Charge an order. */
async function charge(order: string): Promise<string> {
  if (order === 'declined') {
    throw ApplicationFailure.nonRetryable('the card was declined', 'CardDeclined');
  }
  if (order === 'lost') {
    // The connection broke: nobody knows whether the money moved.
    throw ApplicationFailure.create({ message: 'the bank did not answer', type: 'UnknownOutcome' });
  }
  await sleep(100);
  appendFileSync(ledger as string, `${order} ${idempotencyKey()}\n`);
  return `ch_${order}`;
}

const connection = await NativeConnection.connect({ address: process.env.TEMPORAL_ADDRESS ?? 'localhost:7233' });
const worker = await Worker.create({ connection, taskQueue, activities: { charge } });
console.log('up');
await worker.run();
