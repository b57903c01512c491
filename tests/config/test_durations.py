"""Durations and sizes: text in, seconds and bytes out, and back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outboxd.config.types import LONGEST, duration, format_duration, format_size, size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0),
        ("50ms", 0.05),
        ("2s", 2),
        ("1m30s", 90),
        ("24h", 86_400),
        ("7d", 604_800),
        ("1d2h3m4s5ms", 93_784.005),
        ("1.5s", 1.5),
        ("0.5ms", 0.0005),
        ("90m", 5400),
    ],
)
def test_reads_durations(text: str, seconds: float) -> None:
    """Numbers with units, the larger units first, mean their sum in seconds."""
    assert duration(text) == seconds


NO_DURATIONS = """5|s|-1s|+1s|1 s| 1s|1s |1S|1s1m|1s1s|1e3s|.5s|1,5s|2 parsecs|1w|nan|٣s|9999d|"""


@pytest.mark.parametrize("text", NO_DURATIONS.split("|"))
def test_refuses_what_is_no_duration(text: str) -> None:
    """No bare numbers, signs, spaces, doubled or misordered units, other alphabets, and nothing above ten years."""
    with pytest.raises(ValueError, match=r"not a duration|longer than"):
        duration(text)


@settings(deadline=None)
@given(st.integers(min_value=0, max_value=int(LONGEST) * 1_000_000))
def test_a_duration_survives_being_written_and_read(microseconds: int) -> None:
    """Whatever is shown reads back as exactly the same number of seconds."""
    seconds = microseconds / 1_000_000
    assert duration(format_duration(seconds)) == seconds


@settings(deadline=None)
@given(st.text(alphabet="0123456789.dhms ", max_size=12))
def test_reading_a_duration_gives_seconds_or_a_value_error(text: str) -> None:
    """No text makes the reader fail in another way, or return something out of range."""
    try:
        seconds = duration(text)
    except ValueError:
        return
    assert 0 <= seconds <= LONGEST


@settings(deadline=None)
@given(st.integers(min_value=0, max_value=2**42))
def test_a_size_survives_being_written_and_read(count: int) -> None:
    """Sizes are shown in the largest unit that is exact."""
    assert size(str(format_size(count))) == count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("512KiB", 524_288),
        ("1MiB", 1_048_576),
        ("1MB", 1_000_000),
        ("1048576", 1_048_576),
        ("1.5MiB", 1_572_864),
        ("8 MiB", 8_388_608),
    ],
)
def test_reads_sizes(text: str, count: int) -> None:
    """Binary and decimal units, and plain bytes."""
    assert size(text) == count
