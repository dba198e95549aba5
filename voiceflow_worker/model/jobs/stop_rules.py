"""Rules by which a batch stops itself: at a cost, or when too few people answer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from voiceflow_worker.errors import InvalidInputError
from voiceflow_worker.model.jobs.totals import Totals

_RATE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*/\s*(\d{1,9})\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class LeastAnswerRate:
    """The least percentage of answered calls. `5%/200` is 5 %, applied once 200 calls have an outcome."""

    percent: float
    calls: int

    def __post_init__(self) -> None:
        if not 0 < self.percent <= 100 or self.calls < 1:
            raise InvalidInputError(
                "the percentage must be above 0 and at most 100, and the number of calls at least 1"
            )

    def __str__(self) -> str:
        return f"{self.percent:g}%/{self.calls}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRules:
    """The stop rules of one batch. None means no rule.

    `after_cost` is an amount in any currency. `after_refused` is a number of consecutive refusals for one reason; with
    0 they never stop the batch, and with None the usual number does.
    """

    after_cost: Decimal | None = None
    answer_rate_below: LeastAnswerRate | None = None
    after_refused: int | None = None

    @property
    def needs_totals(self) -> bool:
        """Whether a rule is checked against the totals of the batch."""
        return self.after_cost is not None or self.answer_rate_below is not None

    def over(self, earlier: StopRules | None) -> StopRules:
        """These rules, and the earlier ones where these are None."""
        if earlier is None:
            return self
        return StopRules(
            after_cost=earlier.after_cost if self.after_cost is None else self.after_cost,
            answer_rate_below=self.answer_rate_below or earlier.answer_rate_below,
            after_refused=earlier.after_refused if self.after_refused is None else self.after_refused,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The figures that stop rules check: calls with an outcome, answered calls, and the cost by currency."""

    ended: int
    answered: int
    cost: dict[str, Decimal]

    @classmethod
    def of(cls, totals: Totals) -> Measured:
        """The figures of these totals."""
        return cls(ended=sum(totals.outcomes.values()), answered=totals.answered, cost=totals.cost)

    def since(self, earlier: Measured | None) -> Measured:
        """The figures added since `earlier`; all figures if the earlier calls were deleted meanwhile."""
        if earlier is None or self.ended < earlier.ended:
            return self
        cost = {currency: amount - earlier.cost.get(currency, Decimal(0)) for currency, amount in self.cost.items()}
        return Measured(ended=self.ended - earlier.ended, answered=self.answered - earlier.answered, cost=cost)


def why_stop(rules: StopRules, figures: Measured) -> str | None:
    """The reason to stop, with the figure and the limit, as a clause; None if there is none."""
    if rules.after_cost is not None:
        for currency, amount in sorted(figures.cost.items()):
            if amount >= rules.after_cost:
                return f"its calls have cost {amount} {currency}, and the limit is {rules.after_cost}"
    least = rules.answer_rate_below
    if least is not None and figures.ended >= least.calls:
        percent = 100 * figures.answered / figures.ended
        if percent < least.percent:
            return (
                f"{figures.answered} of {figures.ended} calls were answered ({percent:.1f}%), less than the required "
                f"{least.percent:g}%"
            )
    return None


def read_cost(text: str) -> Decimal:
    """The amount that a text such as `50` or `12.50` names. Raises ValueError."""
    try:
        amount = Decimal(text.strip())
    except InvalidOperation:
        amount = Decimal(0)
    if not amount.is_finite() or amount <= 0:
        raise ValueError(f"{text!r} is not a cost: give an amount above 0, such as 50 or 12.50")
    return amount


def read_answer_rate(text: str) -> LeastAnswerRate:
    """The least rate that a text such as `5%/200` names. Raises ValueError."""
    match = _RATE.fullmatch(text)
    try:
        if match is None:
            raise InvalidInputError("its form is wrong")
        return LeastAnswerRate(float(match[1]), int(match[2]))
    except InvalidInputError as error:
        raise ValueError(
            f"{text!r} is not an answer rate: {error}; give a percentage and a number of calls, such as 5%/200"
        ) from None
