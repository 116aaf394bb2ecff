// A job in TypeScript. The endpoint leads to a worker in Python that has the service `dedupe`.

import { createNexusServiceClient } from '@temporalio/workflow';
import * as nexus from 'nexus-rpc';

interface KeyedCall {
  activity: string;
  key: string;
  arguments: unknown[];
  /** Seconds. */
  start_to_close_timeout: number;
}

const dedupe = nexus.service('dedupe', { call: nexus.operation<KeyedCall, string>() });

/** Charge an order, once per key, however many jobs in whatever language ask for it. */
export async function chargeOrder(endpoint: string, order: string): Promise<string> {
  const client = createNexusServiceClient({ endpoint, service: dedupe });
  return await client.executeOperation(
    'call',
    { activity: 'effect', key: `charge-${order}`, arguments: [order], start_to_close_timeout: 30 },
    { scheduleToCloseTimeout: '1 minute' },
  );
}
