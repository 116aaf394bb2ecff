"""The command line over `DedupeKeys`: `python -m dedupe get|list|forget|exclude`.

The service is found as every Temporal client finds it: through TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, the TLS
and API key variables, or a profile of the Temporal configuration file.
"""

import argparse
import dataclasses
import json
import os
import signal
import sys
from datetime import datetime

from temporalio.client import Client
from temporalio.envconfig import ClientConfig
from temporalio.service import RPCError

from dedupe.errors import DedupeError
from dedupe.model.keys import Scope
from dedupe.operate.keys import DedupeKeys, KeyRecord
from dedupe.process import run

SECRET_VARIABLE = "DEDUPE_KEY_SECRET"  # noqa: S105 - the name of the variable
"""Environment variable with the project's key secret, if it hides its keys."""


_DEFAULT_ADDRESS = "localhost:7233"
_INTERRUPTED = 128 + signal.SIGINT
_NOBODY_READS = 128 + signal.SIGPIPE


def main() -> int:
    """Run the command line.

    Returns:
        The exit status: 0 done, 1 there is no such record, 2 it failed; as a shell has it where it was
        interrupted, or nobody reads its output any more.
    """
    arguments = _parser().parse_args()
    try:
        return run(_run(arguments))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is flushed at the end
        return _NOBODY_READS
    except KeyboardInterrupt:
        print("dedupe: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except (DedupeError, RPCError, RuntimeError, ValueError, OSError) as error:
        print(f"dedupe: {getattr(error, 'message', error)}", file=sys.stderr)
        return 2


async def _run(arguments: argparse.Namespace) -> int:
    if arguments.command == "exclude":
        print(DedupeKeys.EXCLUDED, flush=True)
        return 0
    config = ClientConfig.load_client_connect_config()
    config.setdefault("target_host", _DEFAULT_ADDRESS)
    keys = DedupeKeys(
        await Client.connect(**config),
        organization=arguments.organization,
        project=arguments.project,
        key_secret=os.environ.get(SECRET_VARIABLE),
    )
    scope = Scope(arguments.scope)
    match arguments.command:
        case "get":
            record = await keys.get(arguments.key, scope=scope, job=arguments.job)
            if record is None:
                print("nothing is recorded under this key", file=sys.stderr)
                return 1
            print(_line(record), flush=True)
        case "list":
            async for record in keys.list(prefix=arguments.prefix, scope=scope, job=arguments.job):
                print(_line(record), flush=True)
        case "forget":
            if not await keys.forget(arguments.key, scope=scope, job=arguments.job, force=arguments.force):
                print("nothing is recorded under this key", file=sys.stderr)
                return 1
            print("forgotten", file=sys.stderr)
        case command:
            message = f"no such command: {command}"
            raise RuntimeError(message)
    return 0


def _line(record: KeyRecord) -> str:
    """Return a record as one line of JSON."""
    return json.dumps(dataclasses.asdict(record), default=datetime.isoformat)


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--organization", required=True, help="as the plugin is told")
    common.add_argument("--project", required=True, help="as the plugin is told")
    scopes = [scope.value for scope in Scope]
    common.add_argument("--scope", choices=scopes, default=Scope.PROJECT.value, help="default: %(default)s")
    common.add_argument("--job", help="workflow type, for the scope 'job'")
    parser = argparse.ArgumentParser(
        prog="python -m dedupe",
        description="Look at deduplication keys, and drop them.",
        epilog=f"{SECRET_VARIABLE}: the project's key secret, if it hides its keys. TEMPORAL_ADDRESS, "
        "TEMPORAL_NAMESPACE and the other variables of Temporal's clients say which service.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    get = commands.add_parser("get", parents=[common], help="print what is recorded under a key, as JSON")
    get.add_argument("key")
    listing = commands.add_parser("list", parents=[common], help="print all records of a scope, a line each")
    listing.add_argument("--prefix", default="", help="only keys that begin with this")
    forget = commands.add_parser("forget", parents=[common], help="drop a record; the next call executes")
    forget.add_argument("key")
    forget.add_argument("--force", action="store_true", help="also while the key is executing")
    commands.add_parser(
        "exclude",
        help="print the part of a query that leaves keys out, as for a batch that terminates",
    )
    return parser
