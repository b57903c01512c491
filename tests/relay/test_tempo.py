"""How soon the relay reads again, by what it met."""

from outboxd.workers.relay.tempo import MOST_PACE, MOST_REST, QUIET, REST_AFTER_SLOW, SLOW_READ, SLOW_READS, VAIN, Tempo

SLOW = 2 * SLOW_READ


def rests(tempo: Tempo, *took: float) -> list[float]:
    """Behind reads that found nothing."""
    return [tempo.rest(seconds) for seconds in took]


def test_the_database_is_left_alone_behind_some_slow_reads_in_a_row() -> None:
    """In proportion to what they took."""
    tempo = Tempo()
    assert rests(tempo, *[SLOW] * (SLOW_READS - 1)) == [0.0] * (SLOW_READS - 1)
    assert tempo.rest(SLOW) == SLOW * REST_AFTER_SLOW
    assert tempo.rest(10) == MOST_REST


def test_a_quick_read_makes_up_for_the_slow_ones() -> None:
    """One that took long was a moment in which something else had the CPU."""
    tempo = Tempo()
    assert set(rests(tempo, *([*[SLOW] * (SLOW_READS - 1), SLOW_READ / 2] * 3))) == {0.0}


def test_a_read_that_found_much_may_take_longer() -> None:
    """By the number of its events, or their bytes; and a full batch is never slow."""
    for events, size, cut in ((2000, 0, False), (1, 5_000_000, False), (10, 0, True)):
        tempo = Tempo()
        assert {tempo.rest(0.1, events, size, cut=cut) for _ in range(2 * SLOW_READS)} == {0.0}


def test_the_pace_follows_what_batches_take() -> None:
    """Half of it, as of late, and never more than MOST_PACE."""
    tempo = Tempo()
    assert tempo.pace == 0
    for _ in range(100):
        tempo.landed(0.01)
    assert round(tempo.pace, 4) == 0.005
    for _ in range(20):
        tempo.landed(60)
    assert tempo.pace == MOST_PACE


def test_one_batch_that_took_long_does_not_hold_up_the_next_ones() -> None:
    """A flush of the server's log may take a tenth of a second."""
    tempo = Tempo()
    for _ in range(50):
        tempo.landed(0.01)
    tempo.landed(0.1)
    assert tempo.pace < 0.01
    tempo.landed(0.01)
    assert tempo.pace < 0.0075


def test_looks_in_vain_become_rarer() -> None:
    """Up to a limit; a batch that lands, and a while of quiet, ends that."""
    tempo = Tempo()
    assert [tempo.vain(0.0) for _ in range(len(VAIN) + 2)] == [*VAIN, VAIN[-1], VAIN[-1]]
    tempo.landed(0.01)
    assert [tempo.vain(QUIET / 2) for _ in range(2)] == [VAIN[0], VAIN[1]]
    assert tempo.vain(2 * QUIET) == VAIN[0]
