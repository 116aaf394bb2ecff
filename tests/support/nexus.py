"""Nexus endpoints of a test server."""

from uuid import uuid4

from temporalio.api.nexus.v1 import EndpointSpec, EndpointTarget
from temporalio.api.operatorservice.v1 import CreateNexusEndpointRequest

from tests.support.ground import Ground


async def make_endpoint(ground: Ground) -> str:
    """Make an endpoint whose target is the ground's task queue, and return its name."""
    name = f"dedupe-{uuid4().hex[:8]}"
    worker = EndpointTarget.Worker(namespace=ground.server.namespace, task_queue=ground.task_queue)
    await ground.server.operator_service.create_nexus_endpoint(
        CreateNexusEndpointRequest(spec=EndpointSpec(name=name, target=EndpointTarget(worker=worker)))
    )
    return name
