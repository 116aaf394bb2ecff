"""The commands that change keys, one or thousands: `forget`, `retry` and `resolve`."""

import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TextIO

import click
from rich.console import Console
from rich.progress import Progress
from temporalio.service import RPCError

from dedupe.errors import DedupeError
from dedupe.model.findings import DidNotHappen, Happened
from dedupe.operate.listing import AT_ONCE, in_order
from dedupe.operate.options import FAILED, SECRET_VARIABLE, Keys, about, command, filters, listed, options
from dedupe.operate.output import Format
from dedupe.operate.view import KeyRecord, KeyState

_which = options(
    click.argument("key", nargs=-1),
    click.option("--file", type=click.File(), help="Keys, one a line; - is standard input."),
    filters,
    click.option("--dry-run", is_flag=True, help="Only say which keys it would be."),
    click.option("--yes", is_flag=True, help="Do not ask."),
)


@dataclass(frozen=True, kw_only=True)
class _Which:
    """The keys that a command is given, or that its options say."""

    key: tuple[str, ...]
    file: TextIO | None
    dry_run: bool
    yes: bool
    chosen: dict[str, Any]

    async def of(self, keys: Keys) -> list[str | KeyRecord]:
        """Return them: records, where options say them.

        Raises:
            UsageError: It is given both, or neither.
        """
        given = [*self.key, *(line.rstrip("\n") for line in self.file or () if line.strip())]
        is_filtered = any(self.chosen.values())
        if bool(given) == is_filtered:
            raise click.UsageError("give either keys (as arguments, or --file), or options that say which")
        return [record async for record in listed(keys, self.chosen)] if is_filtered else [*given]

    async def named(self, keys: Keys, *, state: KeyState) -> list[str | KeyRecord]:
        """Return their names. Options say which of one state it is, unless they name another one.

        Raises:
            UsageError: It is given both, or neither; or a list would show no names.
        """
        if any(self.chosen.values()):
            if SECRET_VARIABLE in os.environ:
                raise click.UsageError("a list shows no keys where the project hides them: give the keys")
            self.chosen["state"] = self.chosen["state"] or state.value
        return [_name(each) for each in await self.of(keys)]


def _name(given: str | KeyRecord) -> str:
    return given if isinstance(given, str) else given.key


@dataclass(frozen=True, kw_only=True)
class _Changed:
    """What became of one key."""

    key: str
    was_there: bool = False
    error: DedupeError | RPCError | None = None


async def _change(
    given: list[str | KeyRecord],
    change: Callable[[str | KeyRecord], Awaitable[bool]],
    which: _Which,
    *,
    verb: str,
    done: str,
) -> list[_Changed]:
    """Change keys, many at once, and print what became of them. Repeating what was interrupted does no harm.

    Args:
        given: The keys.
        change: Changes one; returns whether there was anything to change.
        which: Whether to do it at all.
        verb: What is done, such as "forget".
        done: The same, once it is.

    Returns:
        Those that were tried: none, where it is a dry run.

    Raises:
        Abort: Somebody was asked, and said no.
    """
    if which.dry_run:
        for each in given:
            print(_name(each))
        print(f"{len(given)} would be {done}", file=sys.stderr)
        return []
    if not which.yes and len(given) > 1 and sys.stdin.isatty():
        click.confirm(f"{verb.capitalize()} {len(given)} keys?", abort=True, err=True)

    async def attempt(each: str | KeyRecord) -> _Changed:
        try:
            return _Changed(key=_name(each), was_there=await change(each))
        except (DedupeError, RPCError) as error:
            return _Changed(key=_name(each), error=error)

    async def one_by_one() -> AsyncIterator[str | KeyRecord]:
        for each in given:
            yield each

    changed: list[_Changed] = []
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(verb, total=len(given))
        async for one in in_order(one_by_one(), attempt, at_once=AT_ONCE):
            changed.append(one)
            progress.advance(task)
            if one.error is not None:
                print(f"dedupe: {one.error.message}", file=sys.stderr)
    _sum_up(changed, done=done)
    return changed


def _sum_up(changed: list[_Changed], *, done: str) -> None:
    failed = sum(each.error is not None for each in changed)
    were_there = sum(each.was_there for each in changed)
    if len(changed) == 1:
        if were_there:
            print(done, file=sys.stderr)
        return
    absent = len(changed) - were_there - failed
    without = f", {absent} without a record" if absent else ""
    print(f"{were_there} {done}{without}, {failed} failed", file=sys.stderr)


def _status(changed: list[_Changed], which: _Which) -> int:
    if any(each.error is not None for each in changed):
        return FAILED
    return int(not which.dry_run and not any(each.was_there for each in changed))


@click.command("forget")
@about
@_which
@click.option("--force", is_flag=True, help="Also while a key is executing: its effect may still happen.")
@click.option("--reason", default="", help="Recorded with each key that is dropped, beside your identity.")
@command
async def forget(
    keys: Keys,
    _: Format,
    key: tuple[str, ...],
    file: TextIO | None,
    *,
    force: bool,
    dry_run: bool,
    yes: bool,
    reason: str,
    **chosen: Any,
) -> int:
    """Drop records: the next call with such a key executes. Keys, a file of them, or options as of `list`."""
    which = _Which(key=key, file=file, dry_run=dry_run, yes=yes, chosen=chosen)
    given = await which.of(keys)

    async def change(each: str | KeyRecord) -> bool:
        # A record that was listed: nothing else is dropped, as an execution that succeeded since.
        dropped = keys.keys.forget_each([each], force=force, reason=reason, **keys.scope)
        [forgotten] = [one async for one in dropped]
        if forgotten.error is not None:
            raise forgotten.error
        return forgotten.was_recorded

    changed = await _change(given, change, which, verb="forget", done="forgotten")
    if [(one.was_there, one.error) for one in changed] == [(False, None)]:
        print(await keys.absent(changed[0].key), file=sys.stderr)
    return _status(changed, which)


@click.command("retry")
@about
@_which
@click.option("--reason", default="", help="The summary of the jobs that make the calls.")
@command
async def retry(
    keys: Keys,
    _: Format,
    key: tuple[str, ...],
    file: TextIO | None,
    *,
    dry_run: bool,
    yes: bool,
    reason: str,
    **chosen: Any,
) -> int:
    """Execute what failed again, with the same arguments. Keys, a file of them, or options as of `list`."""
    which = _Which(key=key, file=file, dry_run=dry_run, yes=yes, chosen=chosen)
    given = await which.named(keys, state=KeyState.FAILED)

    async def change(each: str | KeyRecord) -> bool:
        print(await keys.keys.retry(_name(each), scope=keys.where.scope, reason=reason), flush=True)
        return True

    return _status(await _change(given, change, which, verb="retry", done="started again"), which)


@click.command("resolve")
@about
@_which
@click.option("--happened", is_flag=True, help="Its effect happened: all calls get the result.")
@click.option("--did-not-happen", is_flag=True, help="It did not, and will not: a call executes again.")
@click.option(
    "--result", "result_json", help="What the activity would have returned, as JSON; null by default."
)
@click.option("--force", is_flag=True, help="Also while its attempt may still be under way.")
@click.option("--reason", default="", help="Recorded beside your identity.")
@command
async def resolve(
    keys: Keys,
    _: Format,
    key: tuple[str, ...],
    file: TextIO | None,
    *,
    happened: bool,
    did_not_happen: bool,
    result_json: str | None,
    force: bool,
    dry_run: bool,
    yes: bool,
    reason: str,
    **chosen: Any,
) -> int:
    """Say what became of held keys, of which nobody knows whether their effects happened. Keys, a file of
    them, or options as of `list`.
    """
    if happened == did_not_happen:
        raise click.UsageError("say either --happened or --did-not-happen")
    if did_not_happen and result_json is not None:
        raise click.UsageError("there is no --result of what did not happen")
    try:
        result = json.loads(result_json or "null")
    except ValueError as error:
        raise click.BadParameter(f"it is not JSON: {error}", param_hint="--result") from error
    finding = DidNotHappen() if did_not_happen else Happened(result)
    which = _Which(key=key, file=file, dry_run=dry_run, yes=yes, chosen=chosen)
    given = await which.named(keys, state=KeyState.HELD)

    async def change(each: str | KeyRecord) -> bool:
        await keys.keys.resolve(_name(each), finding, force=force, reason=reason, **keys.scope)
        return True

    return _status(await _change(given, change, which, verb="resolve", done="resolved"), which)
