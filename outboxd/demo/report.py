"""The account as a table, and as JSON."""

from typing import Any

from rich import box
from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table

from outboxd.demo.ledger import Account


def table(account: Account, *, terminal: bool) -> Table:
    """What became of the events. Without frame and colours where it is no terminal."""
    found = Table(box=box.ROUNDED if terminal else None, show_header=False, pad_edge=terminal)
    found.add_column("what", no_wrap=True)
    found.add_column("number", justify="right", no_wrap=True)
    found.add_column("note", style="dim")
    for rows in (_events(account), _dead_letters(account), _latencies(account)):
        for row in rows:
            found.add_row(*row)
        found.add_section()
    return found


def _events(account: Account) -> list[tuple[str, str, str]]:
    return [
        ("committed", _count(account.committed), "as the database confirmed them"),
        ("delivered", _count(account.delivered), "as a consumer of the topic saw them"),
        ("missing", _zero(account.missing), "neither delivered nor a due dead letter"),
        ("out of order", _zero(account.out_of_order), "behind a younger event of its aggregate"),
        ("changed", _zero(account.changed), "another key or payload than committed"),
        ("rolled back, delivered", _zero(account.phantoms), f"of {_count(account.rolled_back)} that were rolled back"),
        ("duplicates", _count(account.duplicates), "may come after a crash or an outage"),
    ]


def _dead_letters(account: Account) -> list[tuple[str, str, str]]:
    total = sum(account.dead_letters.values())
    return [("dead letters", _count(total), "events that can never be delivered")] + [
        (f"  {escape(reason)}", _count(count), _sentence(account.errors[reason]))
        for reason, count in sorted(account.dead_letters.items())
    ]


def _latencies(account: Account) -> list[tuple[str, str, str]]:
    return [
        ("latency p50", _milliseconds(account.latency(0.5)), "from COMMIT's answer to the consumer"),
        ("latency p99", _milliseconds(account.latency(0.99)), ""),
    ]


def verdict(account: Account) -> str:
    """One sentence, in rich's markup."""
    if account.holds:
        return "[bold green]Every committed event arrived, in order, or is a dead letter with its reason.[/]"
    wrong = {
        "missing": account.missing,
        "out of order": account.out_of_order,
        "changed": account.changed,
        "delivered without having been committed": account.phantoms,
    }
    return f"[bold red]{', '.join(f'{_count(number)} {what}' for what, number in wrong.items() if number)}.[/]"


def show(console: Console, account: Account) -> None:
    """Prints the table and the verdict."""
    terminal = console.is_terminal
    console.print(Group("", table(account, terminal=terminal)) if terminal else table(account, terminal=False))
    console.print(verdict(account), highlight=False, soft_wrap=True)


def as_json(account: Account) -> dict[str, Any]:
    """The same for programs. Latencies in milliseconds, null when nothing arrived."""
    return {
        "ok": account.holds,
        "committed": account.committed,
        "delivered": account.delivered,
        "missing": account.missing,
        "out_of_order": account.out_of_order,
        "changed": account.changed,
        "rolled_back": account.rolled_back,
        "rolled_back_delivered": account.phantoms,
        "duplicates": account.duplicates,
        "dead_letters": dict(account.dead_letters),
        "latency_ms": {name: _rounded(account.latency(share)) for name, share in (("p50", 0.5), ("p99", 0.99))},
    }


def _sentence(error: str) -> str:
    """What is wrong, without the code, which stands beside it, and without the cure."""
    return escape(error.partition(": ")[2].partition("; ")[0])


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


def _count(number: int) -> str:
    return f"{number:,}"


def _zero(number: int) -> str:
    """A number that must be 0."""
    return f"[{'red' if number else 'green'}]{_count(number)}[/]"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:,.0f} ms"
