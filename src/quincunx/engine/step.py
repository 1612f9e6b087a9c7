"""One update's gradient, the same however the logical batches are cut into chunks or spread over processes.

Summed losses are divided by the whole update's weight before the first backward pass, so that chunks simply add up.
Represented losses are computed once over all rows: the gradient of each row's representation is then walked back
through its chunk's graph, kept or replayed (gradient caching, Gao et al. 2021, arXiv 2101.06983). Randomness is set
anew, by address, before every forward pass, replays included.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from quincunx.config.plan import Plan
from quincunx.data.batch import Batch
from quincunx.engine.addressing import Addressing
from quincunx.engine.chunks import cut, overhead
from quincunx.engine.graphs import Budget, graph_limit
from quincunx.engine.objective import Objective, Part, Representations, Represented, Summed
from quincunx.engine.optim import trainable
from quincunx.engine.runtime import Runtime
from quincunx.errors import RunError


@dataclass(frozen=True)
class Outcome:
    """The losses of one update, before it is applied."""

    sums: Mapping[str, Tensor]
    """By term: the sum over everything in the update, detached."""
    weights: Mapping[str, float]
    """By term: what the sum is to be divided by."""


class Step:
    """Turns the logical batches of an update into gradients on the parameters."""

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        runtime: Runtime,
        plan: Plan,
        seed: int,
        scaler: torch.amp.GradScaler | None = None,  # pyright: ignore[reportPrivateImportUsage]
    ) -> None:
        self.model = model
        self.objective = objective
        self.runtime = runtime
        self.plan = plan
        self.seed = seed
        self.scaler = scaler
        self.addressing = Addressing(runtime, seed, model, objective)
        self.parameters = [parameter for _, parameter in trainable((model, objective))]
        self._graph_limit = graph_limit(plan, runtime.device, runtime.world)
        self._batch_norms = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]

    def gradient(self, update: int, batches: Sequence[Batch | None]) -> Outcome:
        """Add the gradient of an update (from 0) to the parameters' `grad` and return its losses.

        With several processes a summed objective gets this rank's rows of each logical batch (None for a batch with
        none of them), a represented one the whole batch on every rank; gradients end up summed over ranks.
        """
        if isinstance(self.objective, Summed):
            outcome = self._summed(self.objective, update, batches)
        elif isinstance(self.objective, Represented):
            outcome = self._represented(self.objective, update, batches)
        else:
            raise TypeError(f"{type(self.objective).__name__} is neither a Summed nor a Represented objective")
        self.addressing.clear()
        self.runtime.add_gradients(self.parameters)
        return outcome

    def _summed(self, objective: Summed, update: int, batches: Sequence[Batch | None]) -> Outcome:
        weights = self._weights(batches)
        weights = self.runtime.add_up(weights)
        sums: dict[str, Tensor] = {}
        for number, batch in enumerate(batches):
            if batch is None:
                continue
            positions = self.cut(batch)
            chunks = [batch] if positions is None else [batch.select(part) for part in positions]
            for index, chunk in enumerate(chunks):
                self.addressing.set(update, number, index, chunk)
                with self.runtime.autocast():
                    losses = objective.loss(self.model, chunk.to(self.runtime.device))
                self._backward(losses, weights)
                _accumulate(sums, losses)
        return Outcome(self._sums_over_ranks(sums), weights)

    def _represented(self, objective: Represented, update: int, batches: Sequence[Batch | None]) -> Outcome:
        weights = self._weights(batches)
        sums: dict[str, Tensor] = {}
        for number, batch in enumerate(batches):
            if batch is None:
                raise RunError("a represented objective needs the whole logical batch on every process")
            budget = Budget(self.plan.graphs, self._graph_limit, (self.model, objective))
            encoded = [
                _Encoded(self, objective, part, (update, number, role), budget)
                for role, part in enumerate(objective.parts(batch))
            ]
            representations: Representations = {part.role: part.leaves() for part in encoded}
            self.addressing.set(update, number, -1, batch)
            with self.runtime.autocast():
                losses = objective.loss(self.model, representations, batch.to(self.runtime.device))
            # every rank computes the whole loss: direct gradients are shared out, those of the rows handed back whole
            self._backward(losses, weights, share=1 / self.runtime.world)
            for part in encoded:
                part.walk_back()
            _accumulate(sums, losses)
        return Outcome(sums, weights)

    def _weights(self, batches: Iterable[Batch | None]) -> dict[str, float]:
        weights = dict.fromkeys(self.objective.terms, 0.0)
        for batch in batches:
            if batch is not None:
                for term, weight in self.objective.weights(batch).items():
                    weights[term] += weight
        return weights

    def cut(self, batch: Batch) -> list[Tensor] | None:
        """Return the positions of each chunk of this rank's rows, None when they are one chunk as they stand."""
        plan, device = self.plan, self.runtime.device
        each = overhead(device) if self.objective.pads(self.model, device) else None
        chunks = cut(len(batch), batch.lengths, plan.chunk_samples, plan.chunk_tokens, each, batch.parts)
        if self._batch_norms:
            self._refuse_partial_statistics(chunked=chunks is not None)
        return chunks

    def _backward(self, losses: Mapping[str, Tensor], weights: Mapping[str, float], share: float = 1.0) -> None:
        """Walk back the terms' sums, each times its coefficient over its weight, and times `share`."""
        factors = self.objective.coefficients
        learned = {term: loss for term, loss in losses.items() if weights[term] > 0 and factors.get(term, 1.0) != 0}
        if not learned:
            raise RunError(
                f"nothing to learn from: every term of the loss ({', '.join(losses)}) has weight 0 in this update"
            )
        # a term may be constant in one chunk; where all are, torch says what is wrong
        walked = {term: loss for term, loss in learned.items() if loss.requires_grad} or learned
        gradients: list[Tensor] = []
        for term, loss in walked.items():
            # the factor as the gradient that the walk starts with: cheaper than a product recorded in the graph
            factor = torch.full_like(loss, share * factors.get(term, 1.0) / weights[term])
            gradients.append(factor if self.scaler is None else self.scaler.scale(factor))
        torch.autograd.backward(list(walked.values()), gradients)

    def _sums_over_ranks(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.runtime.world == 1:
            return sums
        local = {term: float(sums[term]) if term in sums else 0.0 for term in self.objective.terms}
        return {term: torch.tensor(value, dtype=torch.float64) for term, value in self.runtime.add_up(local).items()}

    def _refuse_partial_statistics(self, chunked: bool) -> None:
        for name, module in self._batch_norms:
            spread = self.runtime.world > 1 and not isinstance(module, nn.SyncBatchNorm)
            if module.training and (chunked or spread):
                raise RunError(
                    f"{name} ({type(module).__name__}) computes statistics over the batch, of which a chunk or process "
                    "sees only a part: the gradient would depend on the cut. Leave chunking unset and run one process, "
                    f"or {self.objective.statistics_remedy}"
                )


class _Encoded:
    """The rows of one role: encoded chunk by chunk, later walked back with the gradients of their representations."""

    def __init__(
        self, step: Step, objective: Represented, part: Part, place: tuple[int, int, int], budget: Budget
    ) -> None:
        self.step, self.objective, self.role = step, objective, part.role
        self._place = place
        """Update, logical batch and role: the address of its randomness."""
        self._count = len(part.batch)
        runtime = step.runtime
        # a rank without rows (a short last batch) encodes the first one: gathering needs its shape and drops its values
        self._idle = runtime.rank >= self._count
        rows = [0] if self._idle else range(runtime.rank, self._count, runtime.world)
        mine = part.batch if runtime.world == 1 else part.batch.select(rows)
        positions = step.cut(mine)
        self._index = [torch.arange(len(mine))] if positions is None else positions
        self._chunks = [mine] if positions is None else [mine.select(part) for part in positions]
        self._outputs: list[dict[str, Tensor] | None] = []
        """By chunk: what it gave, with its graph; None where it is replayed."""
        detached: list[dict[str, Tensor]] = []
        single = len(self._chunks) == 1 and budget.choice == "auto"
        for index in range(len(self._chunks)):
            tried = budget.open or single
            with torch.set_grad_enabled(tried), budget.counting():
                output = self._forward(index)
            self._outputs.append(output if tried and (budget.open or single) else None)
            detached.append({name: tensor.detach() for name, tensor in output.items()})
            del output  # the graph of one that did not fit
        self._leaves = self._assemble(detached)

    def leaves(self) -> dict[str, Tensor]:
        """Return the representations of all rows, in the batch's order, as leaves that collect gradients."""
        return self._leaves

    def walk_back(self) -> None:
        """Send the gradients that the leaves collected through this rank's chunks."""
        runtime = self.step.runtime
        grads = {name: leaf.grad for name, leaf in self._leaves.items() if leaf.grad is not None}
        if not grads or self._idle:
            return
        # the loss was divided by the number of ranks for the sake of its direct parameters
        mine = {name: grad[runtime.rank :: runtime.world] * runtime.world for name, grad in grads.items()}
        if runtime.world == 1:
            mine = grads
        for index, positions in enumerate(self._index):
            output, self._outputs[index] = self._outputs[index], None  # a graph goes once it is walked
            if output is None:
                output = self._forward(index)
            else:
                self._address(index)  # layers that are computed again in the walk look for their rows and tasks
            names = [name for name in mine if output[name].requires_grad]
            if names:
                rows = positions.to(runtime.device)
                torch.autograd.backward([output[name] for name in names], [mine[name][rows] for name in names])

    def _forward(self, index: int) -> dict[str, Tensor]:
        self._address(index)
        with self.step.runtime.autocast():
            rows = Part(self.role, self._chunks[index].to(self.step.runtime.device))
            return self.objective.represent(self.step.model, rows)

    def _address(self, index: int) -> None:
        update, number, role = self._place
        self.step.addressing.set(update, number, index, self._chunks[index], role)

    def _assemble(self, chunks: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        runtime = self.step.runtime
        order = torch.argsort(torch.cat(self._index)).to(runtime.device)
        leaves: dict[str, Tensor] = {}
        for name in sorted(chunks[0]):
            joined = chunks[0][name] if len(chunks) == 1 else torch.cat([chunk[name] for chunk in chunks])[order]
            leaf = runtime.gather_rows(joined, self._count)
            leaves[name] = leaf.requires_grad_() if leaf.is_floating_point() else leaf
        return leaves


def _accumulate(sums: dict[str, Tensor], losses: Mapping[str, Tensor]) -> None:
    for term, loss in losses.items():
        sums[term] = sums[term] + loss.detach() if term in sums else loss.detach()
