"""The session's server is a real one."""

from uuid import uuid4

from temporalio.client import Client, WorkflowExecutionStatus


async def test_the_running_server_takes_a_workflow(running_server: str) -> None:
    """The server at hand, be it one's own or a cluster's, takes a workflow and ends it when told to."""
    client = await Client.connect(running_server)
    handle = await client.start_workflow("Idle", id=f"idle-{uuid4()}", task_queue="nobody")

    await handle.terminate()

    assert (await handle.describe()).status is WorkflowExecutionStatus.TERMINATED
