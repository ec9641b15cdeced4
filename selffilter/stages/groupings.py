"""The groupings of rows that a config names: what floors, caps and strata are of; what is watched.

=================  ==========================================================================
``source``         the source of the pool that a row is from
``script``         the script of its caption, as a stand-in for the language
``caption_chars``  the length of its caption
``cluster``        k-means of the round's image embeddings, ``select.clusters`` of them
``json:FIELD``     what a field of its json says: ``json:language``, ``json:domain(url)``
=================  ==========================================================================
"""

from __future__ import annotations

from selffilter.errors import UserError
from selffilter.planning import encoded_in
from selffilter.pool.field import JSON, Field
from selffilter.pool.fields import field_values, source_codes
from selffilter.selecting.facts import FACT_GROUPINGS, read_fact_groups
from selffilter.selecting.groups import Groups
from selffilter.selecting.scratch import Scratch
from selffilter.stages.context import RunContext
from selffilter.stages.embedded import round_features, stored_clusters
from selffilter.tables import has_column, shard_file


class Groupings:
    """The groupings of a round, each made once, when it is asked for.

    Args:
        context: The run.
        round_: The round whose scores and embeddings count.
        scratch: Where arrays of a row each come from.
    """

    def __init__(self, context: RunContext, round_: int, scratch: Scratch) -> None:
        self._context, self._round, self._scratch = context, round_, scratch
        self._made: dict[str, Groups] = {}

    def named(self, name: str) -> Groups:
        """Return a grouping.

        Raises:
            UserError: If there is none of that name, or what it is made of is not there.
        """
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def watched(self) -> list[Groups]:
        """Return what is watched, so far as there is something to tell it by.

        An older round's tables lack facts; where no model has encoded the pool there are no
        clusters.
        """
        names = self._context.config.select.groupings
        return [self.named(name) for name in names if self._is_told(name)]

    def asked(self, name: str | None) -> Groups | None:
        """Return a grouping that the config may name.

        None if it names none, and of clusters where there are none: `check_selection` has seen to
        it that nothing depends on them then.

        Raises:
            UserError: If what it is made of is not there.
        """
        if name is None or (name == "cluster" and not self._is_told(name)):
            return None
        return self.named(name)

    def _is_told(self, name: str) -> bool:
        if name == "cluster":
            return encoded_in(self._context.config, self._round) is not None
        scores = self._context.store.stage(self._round, "score")
        return name not in FACT_GROUPINGS or has_column(shard_file(scores, 0), name)

    def _make(self, name: str) -> Groups:
        context, store = self._context, self._context.store
        if name == "source":
            return Groups(name, *source_codes(context.pool))
        if name in FACT_GROUPINGS:
            return read_fact_groups(store.stage(self._round, "score"), context.pool, name)
        if name == "cluster":
            features = round_features(context.config, store, self._round, context.pool.rows)
            with context.screen.bar("clusters", int(features.among_N.sum())) as bar:
                return stored_clusters(
                    store.stage(self._round, "select"),
                    features,
                    context.config.select.clusters,
                    context.config.seed,
                    scratch=self._scratch,
                    progress=bar.advance,
                ).groups()
        if name.startswith(JSON):
            codes_N, names = field_values(
                context.pool,
                name.removeprefix(JSON),
                asked_as=name,
                should_go_on=context.stop.check,
                bar=lambda rows: context.screen.bar(f"read {name}", rows),
                say=context.screen.say,
            )
            return Groups(name, codes_N, names)
        raise _unknown(name)


def check_grouping(name: str) -> None:
    """Check that there is a grouping of that name.

    Raises:
        UserError: If not.
    """
    if name.startswith(JSON):
        Field.parse(name.removeprefix(JSON), name)
    elif name not in ("source", "cluster", *FACT_GROUPINGS):
        raise _unknown(name)


def _unknown(name: str) -> UserError:
    return UserError(
        f"{name!r} is no grouping: they are source, script, caption_chars, cluster and json:FIELD."
    )
