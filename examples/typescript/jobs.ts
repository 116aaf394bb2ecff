// A worker of jobs in TypeScript that call activities with a key: npm run jobs -- TASK_QUEUE

import { fileURLToPath } from 'node:url';
import { NativeConnection, Worker } from '@temporalio/worker';

const [taskQueue] = process.argv.slice(2);
if (taskQueue === undefined) {
  throw new Error('give a task queue');
}

const connection = await NativeConnection.connect({ address: process.env.TEMPORAL_ADDRESS ?? 'localhost:7233' });
const workflowsPath = fileURLToPath(new URL('./workflows.ts', import.meta.url));
const worker = await Worker.create({ connection, taskQueue, workflowsPath });
console.log('up');
await worker.run();
