"""What is to run next in the whole grid: originals, then trials of whichever (cell, method) may go.

1. Search: each (cell, method) tries its configurations, one replicate after another.
2. Race: as soon as a (cell, method) is through, its best configurations run against the default on fresh replicates
   (`rem_study.search.race`); which one is exported is known then.
3. Confirm: that one and the default run on further fresh replicates.
4. Transfer: as soon as a method's races are over in all cells, what is exported for each runs in all other cells, on
   the replicates of confirm.

The order in which jobs are handed out may depend on timing; what each job is, and its result, never does.

A study that has been extended is planned from its first trial, as if nothing had been run, and each replicate that it
asks for is taken from what was run before instead, where that has the same configuration on the same replicate. So it
comes to what it would have come to without the detour.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Set
from types import MappingProxyType
from typing import Any

from rem_study.errors import InputError
from rem_study.search.jobs import Job, OriginalJob, TrialJob
from rem_study.search.neighbours import neighbours
from rem_study.search.race import Race
from rem_study.search.suggest import CellSearch, Score
from rem_study.spec import Configuration, Study
from rem_study.spec.study import CorruptionSpec
from rem_study.storage import ResultKey, TrialKey, trial_key
from rem_study.storage.canonical import canonical_json
from rem_study.storage.rows import placed
from rem_study.trial import Cell, cells_of

Key = tuple[str, str]
"""(cell, method)."""

ATTEMPTS = 2


class GridPlan:
    """The state of a study, rebuilt from the log's rows.

    Args:
        originals: the (corruption, replicate) whose originals are stored already.
        rows: the log's replicate rows, in any order.
        earlier: what was run before the study was extended, by what it is a result of.
        pruned: trials that were given up early, as the log has them: not decided again.
        origin: what `rows` were read from, for messages.
        resuming: told how many of them have been gone through.

    Attributes:
        reused: what was taken from `earlier` so far, as rows of this study.
        kept: called with each row that is taken from `earlier` from now on.
        settled: called with each trial that is through from now on, and how it ended.

    Raises:
        InputError: a row has a configuration that the study cannot have.
    """

    def __init__(
        self,
        study: Study,
        originals: Iterable[OriginalJob],
        rows: Iterable[dict[str, Any]],
        earlier: Mapping[ResultKey, dict[str, Any]] = MappingProxyType({}),
        pruned: Set[TrialKey] = frozenset(),
        origin: str = "the log",
        resuming: Callable[[int], None] = lambda count: None,
    ) -> None:
        spec = study.spec
        self.study = study
        self.cells: dict[str, Cell] = {cell.name: cell for cell in cells_of(spec)}
        self.corruptions: dict[str, CorruptionSpec] = {c.name: c for c in spec.corruptions}
        self._ready = set(originals)
        self._wanted: set[OriginalJob] = set()
        self._waiting_originals: deque[OriginalJob] = deque()
        for replicate in spec.searched:
            for name in self.corruptions:
                self._want(OriginalJob(name, replicate))
        self._neighbours = neighbours(self.cells)
        self._searches = {
            (cell, method): CellSearch(
                study.spaces[method],
                spec.sampler,
                study.trials(method),
                spec.budget.in_flight,
                (spec.seed, cell, method),
                spec.pruner,
                spec.budget.sample_passes,
            )
            for cell in self.cells
            for method in spec.methods
        }
        starts = spec.warm_start or {}
        assert not isinstance(starts, str), "a resolved study has its starting points written out"
        self._starts = {(cell, m): starts.get(m, {}).get(cell, ()) for cell, m in self._searches}
        self._rows: dict[TrialKey, dict[int, dict[str, Any]]] = defaultdict(dict)
        self._states: dict[TrialKey, str] = {}
        self._ended: Counter[tuple[bool, str]] = Counter()  # (whether of the search, state)
        self._waiting: dict[Key, deque[TrialJob]] = {key: deque() for key in self._searches}
        self._races: dict[Key, Race] = {}
        self._confirming: dict[Key, set[TrialKey]] = {}
        self._transferring: dict[str, set[TrialKey]] = {}
        self._queued: set[TrialJob] = set()
        self._attempts: dict[Job, int] = defaultdict(int)
        self._earlier, self._pruned, self._origin, self._resuming = earlier, pruned, origin, resuming
        self.reused: list[dict[str, Any]] = []
        self.kept: Callable[[dict[str, Any]], None] = self.reused.append
        self.settled: Callable[[TrialKey, str], None] = lambda key, state: None
        self._again: deque[Job] = deque()
        self._seconds: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=50))  # the last ones, by method
        for row in rows:
            self._take(row)
        self._replay()
        self._resuming = lambda count: None  # what starts from here on is news

    # What it has come to.

    @property
    def trials_total(self) -> int:
        """Trials of all phases, as far as they are known."""
        return sum(search.trials for search in self._searches.values()) + self.fresh_total

    @property
    def fresh_total(self) -> int:
        """Trials of the race, confirm and transfer phases that are known so far."""
        racing = sum(race.size for race in self._races.values())
        return racing + sum(map(len, (*self._confirming.values(), *self._transferring.values())))

    @property
    def finished(self) -> int:
        """Trials that are through, whatever came of them."""
        return len(self._states)

    @property
    def fresh_finished(self) -> int:
        """Those of them that are of the race, confirm and transfer phases."""
        return sum(count for (searched, _), count in self._ended.items() if not searched)

    @property
    def failed(self) -> int:
        """Trials that failed."""
        return self._ended[True, "failed"] + self._ended[False, "failed"]

    @property
    def pruned(self) -> int:
        """Trials of the search that were given up early."""
        return self._ended[True, "pruned"]

    @property
    def eliminated(self) -> int:
        """Trials that the race was not carried on with."""
        return self._ended[False, "pruned"]

    @property
    def originals_total(self) -> int:
        """Originals that are needed, as far as is known."""
        return len(self._wanted)

    @property
    def originals_ready(self) -> int:
        """Those of them that can be used."""
        return len(self._wanted & self._ready)

    @property
    def cells_finished(self) -> int:
        """Cells in which every method is through with its search, its race and its confirmation."""
        return sum(all(self._through(cell, m) for m in self.study.spec.methods) for cell in self.cells)

    def state(self, key: TrialKey) -> str | None:
        """How a trial ended: complete, pruned or failed; None if it has not."""
        return self._states.get(key)

    def states(self, rows: Iterable[Mapping[str, Any]]) -> dict[TrialKey, str]:
        """How each trial among `rows` that is through has ended."""
        keys = sorted(set(map(trial_key, rows)))
        return {key: state for key in keys if (state := self.state(key))}

    def done(self) -> bool:
        """Whether the study is through."""
        return all(self._through(*key) for key in self._searches) and all(
            key in self._states for keys in self._transferring.values() for key in keys
        )

    def hopeless(self) -> list[Key]:
        """The (cell, method) of which every search trial failed."""
        return [key for key, search in self._searches.items() if search.done and search.trials and not search.usable]

    # What it hands out.

    def next_job(self) -> Job | None:
        """What to run now, or None while everything waits for results."""
        if self._again:
            return self._again.popleft()
        if self._waiting_originals:
            return self._waiting_originals.popleft()
        pace = {method: statistics.fmean(seconds) for method, seconds in self._seconds.items()}

        def remaining_seconds(key: Key) -> float:
            search = self._searches[key]
            replicates = (search.trials - search.asked) * len(self.study.spec.searched) + len(self._waiting[key])
            return replicates * pace.get(key[1], 1.0)

        while able := [key for key in self._searches if self._runnable(key) or self._may_start(key)]:
            key = max(able, key=remaining_seconds)
            if not self._runnable(key):
                self._start(key)  # which queues nothing where the log has the whole trial already
            for job in self._waiting[key]:
                if self._has_original(job):
                    self._waiting[key].remove(job)
                    return job
        return None

    def original_done(self, job: OriginalJob) -> None:
        """The original of `job` is stored."""
        self._ready.add(job)

    def original_failed(self, job: OriginalJob) -> None:
        """The original cannot be trained: its cells run on, and each trial will say why it fails."""
        self._ready.add(job)

    def replicate_done(self, row: dict[str, Any]) -> None:
        """A replicate has finished (and is in the log)."""
        self._take(row)
        key = trial_key(row)
        if key in self._states:
            return
        if key[2] == "race":
            self._run_race(key[:2])
        else:
            self._settle(key, row["config"], row.get("proposed_by") or "")

    def lost(self, job: Job) -> bool:
        """The worker of `job` died. Whether it will run again, under the same number and seeds."""
        self._attempts[job] += 1
        again = self._attempts[job] < ATTEMPTS
        if again:
            self._again.append(job)
        return again

    def _runnable(self, key: Key) -> bool:
        return any(map(self._has_original, self._waiting[key]))

    def _has_original(self, job: TrialJob) -> bool:
        return OriginalJob(self.cells[job.cell].corruption.name, job.replicate) in self._ready

    def _may_start(self, key: Key) -> bool:
        return OriginalJob(self.cells[key[0]].corruption.name, 0) in self._ready and self._may_ask(key)

    def _may_ask(self, key: Key) -> bool:
        search = self._searches[key]
        if not search.may_ask():
            return False
        if search.asked not in self._adopting(key):
            return True
        first = self.study.spec.neighbours.from_trial or 0
        return all(self._searches[cell, key[1]].finished_first(first) for cell in self._neighbours[key[0]])

    def _start(self, key: Key) -> None:
        """Ask the search of `key` for its next trial."""
        cell, method = key
        search = self._searches[key]
        number = search.asked
        have = self._rows[cell, method, "search", number]
        if have:
            row = next(iter(have.values()))
            known, proposed_by = row["config"], row["proposed_by"] or ""
        else:
            known, proposed_by = self._proposal(key, number)
        try:
            number, configuration = search.ask(known)
        except InputError as error:
            raise InputError(f"{self._origin}: {cell}, {method} #{number}: config.{error}") from None
        self._resuming(len(self._states))
        self._settle((cell, method, "search", number), configuration, proposed_by)

    def _proposal(self, key: Key, number: int) -> tuple[Configuration | None, str]:
        """The configuration that trial `number` is to have, if it is not the sampler's to say, and whose it is."""
        if number == 0:
            return None, "default"
        if number <= len(self._starts[key]):
            start = self._starts[key][number - 1]
            return start.config, f"warm start: {start.source}"
        adopting = self._adopting(key)
        if number in adopting:
            adopted = self._adopted(key)
            if number - adopting.start < len(adopted):
                cell, configuration = adopted[number - adopting.start]
                return configuration, cell
        return None, self.study.spec.sampler.name

    def _adopting(self, key: Key) -> range:
        """The trials in which the adjacent cells' best may be tried."""
        first = self.study.spec.neighbours.from_trial
        if first is None:
            return range(0)
        begin = max(first, 1 + len(self._starts[key]))
        return range(begin, begin + len(self._neighbours[key[0]]))

    def _adopted(self, key: Key) -> list[tuple[str, Configuration]]:
        """The best configurations of the adjacent cells' first trials, less what was tried here by then."""
        cell, method = key
        first = self.study.spec.neighbours.from_trial
        tried = list(self._searches[key].configurations[: self._adopting(key).start])
        adopted = []
        for neighbour in self._neighbours[cell]:
            search = self._searches[neighbour, method]
            for number in search.ranking(first)[:1]:
                configuration = search.configurations[number]
                if configuration not in tried:
                    tried.append(configuration)
                    adopted.append((neighbour, configuration))
        return adopted

    # What comes of it.

    def _settle(self, key: TrialKey, configuration: Configuration, proposed_by: str) -> None:
        """See whether a trial is through, by the replicates that are there; if not, queue its next one.

        Not for the race, whose trials go on in turns.
        """
        phase, spec = key[2], self.study.spec
        replicates = spec.searched if phase == "search" else spec.confirmed
        state, there = None, []
        for replicate in replicates:
            row = self._obtain(key, replicate, configuration, proposed_by)
            if row is None:
                return
            there.append(row)
            if phase == "search":
                state = self._state_after(key, there, whole=len(there) == len(replicates))
                if state is not None:
                    break
        if state is None:
            state = "failed" if any(row["state"] == "failed" for row in there) else "complete"
        self._end(key, state)
        if phase == "search":
            scores = None if state == "failed" else [_score(row) for row in there]
            passes = sum(row["sample_passes"] or 0 for row in there)
            search = self._searches[key[0], key[1]]
            search.tell(key[3], scores, pruned=state == "pruned", sample_passes=passes)
            if search.done:
                self._begin_race((key[0], key[1]))

    def _obtain(
        self, key: TrialKey, replicate: int, configuration: Configuration, proposed_by: str
    ) -> dict[str, Any] | None:
        """A replicate of a trial, where it has been run; else None, and it is queued."""
        original = OriginalJob(self.cells[key[0]].corruption.name, replicate)
        if replicate in self._rows[key] or self._reuse(key, replicate, configuration, proposed_by):
            if original in self._ready:  # else it has been used and removed since, and is not wanted again
                self._wanted.add(original)
            return self._rows[key][replicate]
        job = TrialJob(*key, replicate, configuration, proposed_by)
        if job not in self._queued:
            self._queued.add(job)
            self._want(original)
            self._waiting[job.cell, job.method].append(job)
        return None

    def _want(self, original: OriginalJob) -> None:
        """Queue an original that is needed, unless it is there or queued."""
        if original not in self._wanted:
            self._wanted.add(original)
            if original not in self._ready:
                self._waiting_originals.append(original)

    def _end(self, key: TrialKey, state: str) -> None:
        self._states[key] = state
        self._ended[key[2] == "search", state] += 1
        self.settled(key, state)

    def _reuse(self, key: TrialKey, replicate: int, configuration: Configuration, proposed_by: str) -> bool:
        """Take a replicate from what was run before the study was extended. Whether it is there."""
        if not self._earlier:
            return False
        known = self._earlier.get((*key[:2], canonical_json(configuration), replicate))
        if known is None:
            return False
        row = placed(known, key, proposed_by)
        self._take(row)
        self.kept(row)
        return True

    def _state_after(self, key: TrialKey, there: list[dict[str, Any]], whole: bool) -> str | None:
        if there[-1]["state"] == "failed":
            return "failed"
        if whole:
            return "complete"
        scores = [_score(row) for row in there]
        if not all(score.finite for score in scores):
            return "failed"
        if key in self._pruned:
            return "pruned"
        if self._searched_further(key, len(there)):
            return None
        return "pruned" if self._searches[key[0], key[1]].prunes(key[3], scores) else None

    def _searched_further(self, key: TrialKey, replicates: int) -> bool:
        """Whether the log has the trial's next replicate, so that it was decided before that it goes on."""
        return self.study.spec.searched[replicates] in self._rows[key]

    def _begin_race(self, key: Key) -> None:
        """Let the best of a search that is through race the default; see `rem_study.search.race`."""
        search, spec = self._searches[key], self.study.spec
        if not search.usable or not spec.confirm.replicates:
            self._confirming[key] = set()
            self._transfer_if_last(key[1])
            return
        challengers, default = search.contenders()
        self._races[key] = Race(challengers[: spec.race.top], default, spec.race.replicates)
        self._run_race(key)

    def _run_race(self, key: Key) -> None:
        """Tell a race what is known, queue what it wants next, and see to its winner."""
        race, search, spec = self._races[key], self._searches[key], self.study.spec
        moved = True
        while moved and not race.over:
            moved, replicate = False, spec.raced[race.rounds_run]
            for number in race.wanted():
                proposed_by = "challenger" if number else "default"
                row = self._obtain((*key, "race", number), replicate, search.configurations[number], proposed_by)
                if row is not None:
                    race.tell(number, _score(row).value if row["state"] != "failed" else None)
                    moved = True
        for number, state in race.out.items():
            if (*key, "race", number) not in self._states:
                self._end((*key, "race", number), state)
        if race.winner is not None and key not in self._confirming:
            self._confirm(key, race.winner)

    def _confirm(self, key: Key, winner: int) -> None:
        """Queue the fresh replicates of what `key` exports; and, if it was the method's last cell, the transfer."""
        cell, method = key
        search = self._searches[key]
        chosen = {winner: "selected"}
        chosen.setdefault(0, "default")
        self._confirming[key] = {(cell, method, "confirm", number) for number in chosen}
        for number, proposed_by in chosen.items():
            self._settle((cell, method, "confirm", number), search.configurations[number], proposed_by)
        self._transfer_if_last(method)

    def _transfer_if_last(self, method: str) -> None:
        if self.study.spec.confirm.everywhere and all((name, method) in self._confirming for name in self.cells):
            self._transfer(method)

    def _transfer(self, method: str) -> None:
        """Queue every candidate for the universal configuration in the cells where it is not confirmed already."""
        candidates: list[tuple[str, Configuration]] = []
        for cell in self.cells:
            race = self._races.get((cell, method))
            if race is not None and race.winner is not None:
                configuration = self._searches[cell, method].configurations[race.winner]
                if all(configuration != known for _, known in candidates):
                    candidates.append((cell, configuration))
        default = self.study.spaces[method].defaults
        if all(default != known for _, known in candidates):
            candidates.append(("default", default))
        queued = []
        for cell in self.cells:
            search = self._searches[cell, method]
            confirmed = [search.configurations[key[3]] for key in self._confirming.get((cell, method), set())]
            for number, (winner_of, configuration) in enumerate(candidates):
                if configuration not in confirmed:
                    queued.append(((cell, method, "transfer", number), configuration, winner_of))
        self._transferring[method] = {key for key, _, _ in queued}
        for key, configuration, winner_of in queued:
            self._settle(key, configuration, winner_of)

    def _through(self, cell: str, method: str) -> bool:
        key = cell, method
        return key in self._confirming and all(one in self._states for one in self._confirming[key])

    def _replay(self) -> None:
        """Ask again for what the log has whole, in any order that the dependencies between cells allow.

        What was run before an extension has its place in the log as soon as it is taken from there; how much more of it
        serves is found by asking on.
        """
        moved = True
        while moved:
            moved = False
            for key, search in self._searches.items():
                while (search.may_ask() and self._rows.get((*key, "search", search.asked))) or (
                    self._earlier and self._may_ask(key)
                ):
                    self._start(key)
                    moved = True

    def _take(self, row: dict[str, Any]) -> None:
        names = ("config", "state", "score", "score_healed", "score_utility", "sample_passes", "proposed_by")
        kept = {name: row.get(name) for name in names}
        self._rows[trial_key(row)][row["replicate"]] = kept
        self._seconds[row["method"]].append(row.get("seconds") or 0.0)


def _score(row: dict[str, Any]) -> Score:
    value, healed, utility = (
        math.nan if row[name] is None else row[name] for name in ("score", "score_healed", "score_utility")
    )
    return Score(value, (healed, utility))
