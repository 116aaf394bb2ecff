"""The time-skipping test server (V1), and what is different there.

It does not skip time while an activity is open, so nobody waits in one: a claim comes back by its retry
delay. It knows no start delay, so nothing is executed in place. It leaps ten years once the awaited workflow
has closed, which times out every open one: there the workflow of a key closes as soon as it has settled, and
its closed run is the record. Records expire for readers by the job's own time, as everywhere.
"""

from datetime import UTC, datetime

from google.protobuf.empty_pb2 import Empty
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

_NO_TEST_SERVICE = {
    RPCStatusCode.UNIMPLEMENTED,
    # What gateways in front of a service say of a call they do not know.
    RPCStatusCode.NOT_FOUND,
    RPCStatusCode.PERMISSION_DENIED,
    RPCStatusCode.UNKNOWN,
}


async def is_time_skipping(client: Client) -> bool:
    """Return whether the client's server skips time.

    Raises:
        RPCError: The server could not be asked.
    """
    try:
        await client.test_service.get_current_time(Empty(), retry=True)
    except RPCError as error:
        if error.status in _NO_TEST_SERVICE:
            return False
        raise
    return True


async def server_time(client: Client) -> datetime:
    """Return the time-skipping server's own time."""
    response = await client.test_service.get_current_time(Empty(), retry=True)
    return response.time.ToDatetime(tzinfo=UTC)
