"""Settings of a search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, Field

from tokensieve.errors import TokensieveError
from tokensieve.setting_types import Count, MethodChoice, known_keys_only, one_or_more

DEFAULT_MINUTES = 60.0

Fractions = Annotated[
    tuple[float, ...], BeforeValidator(lambda value: [value] if isinstance(value, int | float) else value)
]


@known_keys_only
@dataclass(frozen=True)
class SearchSettings:
    """What `tokensieve search` tries, and how much it may train for that.

    Attributes:
        methods: methods to try, each a name or a mapping with hyper-parameters; one without a `fraction` decides by
            itself how much it keeps. When not given, `method`, as it is set, and every other method with a `fraction`,
            with its defaults, of those that select before the training and whose models the recipe names.
        fractions: shares of the trainable tokens to try, in (0, 1). A budget that does not pay for all candidates
            leaves out those at the last fractions.
        measure: what decides: `held_out`, or another measure that `evaluate` is set up for.
        minutes: budget in minutes, measuring included; 60 when neither `minutes` nor `probes` is given.
        probes: budget in trained models, in place of minutes.
        rungs: selection rounds at most. Each has twice the optimizer steps of the one before and one seed more, and
            keeps the better half.
        seeds: seeds that confirm the winner; none of them is used before.

    Raises:
        TokensieveError: a fraction outside (0, 1) or given twice, both budgets, or a budget of nothing.
    """

    methods: Annotated[tuple[MethodChoice, ...], one_or_more] = ()
    fractions: Fractions = (0.5, 0.7, 0.3, 0.9)
    measure: str = "held_out"
    minutes: float | None = None
    probes: Count | None = None
    rungs: Count = 3
    seeds: Annotated[int, Field(ge=2)] = 5

    def __post_init__(self) -> None:
        for fraction in self.fractions:
            if not 0 < fraction < 1:
                raise TokensieveError(
                    f"fractions has {fraction:g}, and a fraction to try is above 0 and below 1",
                    where="recipe: search.fractions",
                    hint="leave it out: training on everything is always tried",
                )
        if len(set(self.fractions)) < len(self.fractions) or not self.fractions:
            raise TokensieveError(
                f"fractions is {list(self.fractions)}, it must be a list of different numbers",
                where="recipe: search.fractions",
                hint="search.fractions: [0.5, 0.7]",
            )
        if self.minutes is not None and self.probes is not None:
            raise TokensieveError(
                "minutes and probes are both given", where="recipe: search.minutes", hint="keep one of them"
            )
        if self.minutes is not None and not 0 < self.minutes < float("inf"):
            raise TokensieveError(
                f"minutes is {self.minutes:g}, it must be above 0 and finite",
                where="recipe: search.minutes",
                hint=f"search.minutes: {DEFAULT_MINUTES:g}",
            )

    @property
    def seconds(self) -> float:
        """The budget in seconds, where it is not given in probes."""
        return 60 * (DEFAULT_MINUTES if self.minutes is None else self.minutes)
