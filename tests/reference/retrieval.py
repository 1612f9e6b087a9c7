"""The losses of retrieval written out pair by pair, with sets of what must not be a negative."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

Stored = tuple[Tensor, list[int], list[int]]
"""Vectors, keys and hashes of a memory."""


class World:
    """The texts of a batch and of a memory, and which never are negatives of which."""

    def __init__(
        self,
        links: Mapping[str, Tensor],
        stored: Mapping[str, Stored] | None = None,
        relevant: Sequence[tuple[int, int]] = (),
    ) -> None:
        stored = stored or {}
        self.keys = {side: links[f"{side}_keys"].tolist() for side in ("query", "document")}
        self.hashes = {side: links[f"{side}_hashes"].tolist() for side in ("query", "document")}
        self.count = {side: len(keys) for side, keys in self.keys.items()}
        for side, (_, keys, hashes) in stored.items():
            self.keys[side] = self.keys[side] + keys
            self.hashes[side] = self.hashes[side] + hashes
        self.positives = [(q, d) for q, d in links["positives"].tolist()]
        self.explicit = {(q, d) for q, d in links["negatives"].tolist()}
        self.known = {(q, d) for q, d in links["known"].tolist()} | set(self.positives)
        self.known_texts = {(self.hashes["query"][q], self.hashes["document"][d]) for q, d in self.known}
        self.known_keys = {(self.keys["query"][q], self.keys["document"][d]) for q, d in self.known}
        self.known_texts |= set(relevant)

    def related(self, query: int, document: int) -> bool:
        texts = self.hashes["query"][query], self.hashes["document"][document]
        keys = self.keys["query"][query], self.keys["document"][document]
        return texts in self.known_texts or keys in self.known_keys or texts[0] == texts[1]

    def siblings(self, side: str, first: int, second: int) -> bool:
        if self.keys[side][first] == self.keys[side][second] or self.hashes[side][first] == self.hashes[side][second]:
            return True
        for query, document in self.known:
            pair = (second, document) if side == "query" else (query, second)
            if first == (query if side == "query" else document) and (self.related(*pair) or pair in self.explicit):
                return True
        return False

    def negatives(self, direction: str, row: int, in_batch: bool = True) -> list[int]:
        rows, columns = direction.split("_to_")
        found: list[int] = []
        for column in range(len(self.keys[columns])):
            if rows == columns:
                never = self.siblings(rows, row, column)
            else:
                pair = (row, column) if rows == "query" else (column, row)
                never = self.related(*pair) or (not in_batch and pair not in self.explicit)
            if not never:
                found.append(column)
        return found


def info_nce(
    queries: Tensor,
    documents: Tensor,
    world: World,
    *,
    stored: Mapping[str, Stored] | None = None,
    temperature: float = 0.05,
    cosine: bool = True,
    directions: Sequence[str] = ("query_to_document",),
    partition: str = "separate",
    positives: str = "each",
    in_batch: bool = True,
) -> dict[str, Tensor]:
    """Return the sum of each direction's losses, or of the joint one."""
    vectors = {"query": queries, "document": documents}
    for side, (more, _, _) in (stored or {}).items():
        vectors[side] = torch.cat([vectors[side], more.to(vectors[side].dtype)])
    if cosine:
        vectors = {side: functional.normalize(found, dim=1) for side, found in vectors.items()}

    def score(left: str, i: int, right: str, j: int) -> Tensor:
        return vectors[left][i] @ vectors[right][j] / temperature

    def terms(direction: str, query: int, document: int) -> list[Tensor]:
        rows, columns = direction.split("_to_")
        row = query if rows == "query" else document
        return [score(rows, row, columns, j) for j in world.negatives(direction, row, in_batch)]

    if partition == "joint":
        total = queries.sum() * 0
        for q, d in world.positives:
            s = score("query", q, "document", d)
            below = [term for direction in directions for term in terms(direction, q, d)]
            below += [s] * max(
                1, sum(direction.split("_to_")[0] != direction.split("_to_")[1] for direction in directions)
            )
            total = total + torch.logsumexp(torch.stack(below), 0) - s
        return {"joint": total}
    sums: dict[str, Tensor] = {}
    for direction in directions:
        total = queries.sum() * 0
        groups: dict[int, list[tuple[int, int]]] = {}
        for q, d in world.positives:
            groups.setdefault(q if direction.startswith("query") else d, []).append((q, d))
        for pairs in groups.values():
            scores = [score("query", q, "document", d) for q, d in pairs]
            below = terms(direction, *pairs[0])
            if positives == "together":
                above = torch.logsumexp(torch.stack(scores), 0)
                total = total + torch.logsumexp(torch.stack([*scores, *below]), 0) - above
            else:
                for s in scores:
                    total = total + torch.logsumexp(torch.stack([s, *below]), 0) - s
        sums[direction] = total
    return sums
