"""Checks what several processes can do of a run."""

from __future__ import annotations

from tokensieve.errors import TokensieveError
from tokensieve.measure.share import Share
from tokensieve.pipeline.arms import replicates
from tokensieve.pipeline.plan import Plan
from tokensieve.runs.folder import RunFolder
from tokensieve.store.mirror import sync


def check_share(share: Share, plan: Plan, until: str) -> None:
    """Refuse what several processes cannot do, as none waits for the others.

    Raises:
        TokensieveError: a stage that one process carries out, a model that is made from what is measured before, or
            a training before the selection.
    """
    if share.is_all:
        return
    if until == "train":
        _check_selected(plan)
        return
    if until != "measure":
        raise TokensieveError(
            f"several processes can measure and train, and '{until}' runs in one",
            where="--shard",
            hint="measure in all processes, and then go on in one: tokensieve run RECIPE",
        )
    if plan.refined:
        role, arm = next(iter(plan.refined.items()))
        raise TokensieveError(
            f"'{arm.name}' trains models.{role} on what is measured in the round before, and a share is not enough "
            "for that",
            where="--shard",
            hint="one process, with engine=ray for several workers",
        )


def _check_selected(plan: Plan) -> None:
    """Refuse a training by several processes of what one has not selected yet.

    Raises:
        TokensieveError: an arm without a selection.
    """
    folder, seeds = RunFolder(plan.recipe.output_folder), plan.recipe.training_seeds
    if plan.recipe.train is None:
        return
    sync(folder.path)
    for arm in plan.arms:
        for name, own, _ in replicates(arm.name, folder.arm(arm.name), seeds if arm.by_seed else seeds[:1]):
            if not own.selected:
                raise TokensieveError(
                    f"'{name}' has no selection yet, and several processes only train",
                    where=str(folder.path),
                    hint="in one process: tokensieve select RECIPE; then launch `tokensieve train RECIPE` again",
                )
