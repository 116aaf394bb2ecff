"""How far a key reaches."""

from datetime import timedelta
from uuid import uuid4

from google.protobuf.duration_pb2 import Duration
from temporalio import workflow
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

import dedupe
from dedupe import Scope
from tests.support.ground import Ground, Grounds
from tests.support.scripts import Call, OtherScript, Script, returned
from tests.support.servers import with_plugins
from tests.support.waiting import until


async def test_a_project_key_is_shared_by_all_jobs_of_the_project(ground: Ground) -> None:
    """A key of the default scope is one key for every workflow type of the project."""
    async with ground.worker():
        assert await ground.call(Call(argument="first")) == returned("first")
        assert await ground.call(Call(argument="second"), job=OtherScript.run) == returned("first")
        await ground.assert_hit()


async def test_a_job_key_is_not_shared_with_another_job(ground: Ground) -> None:
    """A key of job scope is one key for each workflow type, shared by that type's runs."""
    async with ground.worker():
        for job in (Script.run, OtherScript.run):
            name = job.__qualname__
            assert await ground.call(Call(argument=name, scope=Scope.JOB), job=job) == returned(name)
            assert await ground.call(Call(scope=Scope.JOB), job=job) == returned(name)
    assert len(ground.effects.attempts) == 2


async def test_a_project_key_is_not_shared_with_another_project(grounds: Grounds) -> None:
    """The same key in two projects of one organization is two keys, in project and job scope."""
    web = grounds()
    shop = web.beside(project="shop", serve=False)
    async with web.worker(), shop.worker():
        for scope in (Scope.PROJECT, Scope.JOB):
            for project in (web, shop):
                argument = f"{project.project} {scope}"
                assert await project.call(Call(argument=argument, scope=scope)) == returned(argument)


async def test_an_organization_key_is_shared_by_its_projects(grounds: Grounds) -> None:
    """A key of organization scope is one key for all projects of the organization, and for no other."""
    web = grounds()
    shop = web.beside(project="shop", serve=False)
    stranger = grounds()
    async with web.worker(), shop.worker(), stranger.worker():
        call = Call(scope=Scope.ORGANIZATION)
        assert await web.call(call.model_copy(update={"argument": "web"})) == returned("web")
        assert await shop.call(call) == returned("web")
        await shop.assert_hit()
        assert await stranger.call(call) == returned("argument")
    assert (web.effects.arguments, shop.effects.arguments) == (["web"], [])


async def test_one_key_in_three_scopes_is_three_keys(ground: Ground) -> None:
    """A key of one scope is never answered by the same key of another scope."""
    async with ground.worker():
        [ends, again] = await ground.script(
            [Call(argument=scope.value, scope=scope) for scope in Scope],
            [Call(scope=scope) for scope in Scope],
        )
    assert ends == again == [returned(scope.value) for scope in Scope]
    assert len(ground.effects.attempts) == 3
    assert {await _state(ground, scope) for scope in Scope} == {scope.value for scope in Scope}


async def _state(ground: Ground, scope: Scope) -> str:
    record = await ground.keys.get("key", scope=scope, job="Script")
    assert record is not None
    assert record.result_json is not None
    return record.result_json.strip('"')


async def test_names_built_to_collide_do_not_collide(grounds: Grounds) -> None:
    """An organization or key that spells another project's workflow id gets a key of its own."""
    organization = grounds().organization
    hostile = [
        grounds(organization=organization, project="web/Script"),
        grounds(organization=f"{organization}/web", project="Script"),
        grounds(organization=f"{organization}:key", project="web"),
        grounds(organization=f"{organization}%2Fweb", project="web"),
    ]
    for ground in hostile:
        async with ground.worker():
            for key in ("key", "web:key", "%6Bey"):
                argument = f"{ground.project} {key}"
                assert await ground.call(Call(argument=argument, key=key)) == returned(argument)


@workflow.defn(name="Script:key")
class ColonScript:
    """A job whose type spells the end of another one's workflow id."""

    @workflow.run
    async def run(self, key: str) -> str:
        """See the class."""
        return await _call_in_job_scope(key, "colon")


@workflow.defn(name="x/Script")
class SlashScript:
    """A job whose type spells two segments of a workflow id."""

    @workflow.run
    async def run(self, key: str) -> str:
        """See the class."""
        return await _call_in_job_scope(key, "slash")


async def _call_in_job_scope(key: str, argument: str) -> str:
    answer: str = await dedupe.execute_activity(
        "effect",
        argument,
        deduplication_key=key,
        deduplication_scope=Scope.JOB,
        start_to_close_timeout=timedelta(seconds=20),
        result_type=str,
    )
    return answer


async def test_types_built_to_collide_do_not_collide(ground: Ground) -> None:
    """A workflow type that spells another job's workflow id, or another project's, gets keys of its own."""
    async with ground.worker(workflows=[ColonScript, SlashScript]):
        for key in ("key", "key:key"):
            plain = Call(argument="plain", key=key, scope=Scope.JOB)
            assert await ground.call(plain) == returned("plain")
            assert await ground.run(ColonScript.run, key) == "colon"
            assert await ground.run(SlashScript.run, key) == "slash"
    assert len(ground.effects.attempts) == 6


async def test_a_namespace_is_the_outer_wall(real: Ground) -> None:
    """The same key of the same organization is another key in another namespace."""
    namespace = f"wall-{uuid4().hex[:8]}"
    await real.server.workflow_service.register_namespace(
        RegisterNamespaceRequest(
            namespace=namespace, workflow_execution_retention_period=Duration(seconds=86_400)
        )
    )
    client = with_plugins(real.server, namespace=namespace)
    beyond = Ground.on(client, skips_time=False, organization=real.organization)
    await until(lambda: _is_served(client), within=timedelta(minutes=1))
    async with real.worker(), beyond.worker():
        assert await real.call(Call(argument="here")) == returned("here")
        assert await beyond.call(Call(argument="there")) == returned("there")
    await beyond.replay()


async def _is_served(client: Client) -> bool:
    try:
        await client.count_workflows()
    except RPCError:
        return False
    return True
