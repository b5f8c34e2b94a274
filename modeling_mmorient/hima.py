"""HIMA: Hierarchical Interactive Monomodal Attention (paper, section "HIMA")."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Self

import torch
from torch import nn

from .configuration_mmorient import MMOrientConfig
from .features import AttentionFeatures, EncodedFeatures, standardized
from .global_batch import GlobalBatch

# Length of a SHA-256 digest of references.
DIGEST_BYTES = 32
# The state of references that this model does not hold.
OTHERS = "other references"


class AttentionPooling(nn.Module):
    r"""Weighted mean of the rows of a set, with learned weights.

    For the rows q_1..q_m of Q, with `scoring="context"`:

        s_j = GELU(W q_j + b) . c / sqrt(h),    W: d -> h,  c: context vector of width h

    or with `scoring="direct"`, as in the published script:

        s_j = GELU(w . q_j + b)

    and then α = softmax(s) over the unmasked rows and v = Σ_j α_j q_j. A new model has c = 0, so that
    v starts as the plain mean.

    Args:
        dim: Width d of a row.
        hidden_size: Width h of the hidden matrix; not used by `direct` scoring.
        scoring: `context` or `direct`.

    Shapes:
        rows (..., m, d), mask (..., m) with True = present; returns v (..., d) and α (..., m).
        Masked rows may hold anything, NaN included. A set without any row gives zeros.
    """

    def __init__(self, dim: int, hidden_size: int, scoring: str) -> None:
        super().__init__()
        self.scoring = scoring
        self.hidden = nn.Linear(dim, hidden_size if scoring == "context" else 1)
        self.context = nn.Parameter(torch.zeros(hidden_size)) if scoring == "context" else None

    def forward(self, rows: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rows = rows.masked_fill(~mask.unsqueeze(-1), 0.0)
        scores = self.scores(rows)
        # The lowest finite number instead of -inf keeps a set without rows free of NaN.
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        weights = scores.softmax(-1).masked_fill(~mask, 0.0).to(rows.dtype)
        return (weights.unsqueeze(-2) @ rows).squeeze(-2), weights

    def scores(self, rows: torch.Tensor) -> torch.Tensor:
        """s_j of each row, (..., m), in float32: with hundreds of rows the weights of a softmax in half
        precision do not add up to one."""
        hidden = nn.functional.gelu(self.hidden(rows))
        if self.context is None:
            return hidden.squeeze(-1).float()
        # Without the scale the scores of wide hidden layers saturate, and one row takes all the weight.
        return (hidden @ self.context / math.sqrt(len(self.context))).float()

    def extra_repr(self) -> str:
        return f"scoring={self.scoring!r}"


class BatchBias(nn.Module):
    r"""HIMA stage 2: the same attention across samples.

        g = Σ_b β_b v_b,  β = softmax_b(score(v_b));  v_b <- v_b + g

    In training g is that of the batch, over the rows that have the modality, and a running mean of it is
    kept. In evaluation that running mean is used as g, so that no row depends on the rest of its batch;
    before any training it is zero. Where the model has references, g over all of them replaces it (`over`,
    `settle`).

    Args:
        dim: Width d of the vectors.
        hidden_size, scoring: As in [`AttentionPooling`].
        momentum: Share of a new batch in the running mean. The first batches count equally until
            their number reaches 1 / momentum, so that no initial zero weighs on the mean.

    Shapes:
        vectors (B, d), present (B,) with True = present; returns (B, d). With `batch`, g is that of the
        rows of all processes. A `g` (d,) that is given takes the place of the running mean.
    """

    running_g: torch.Tensor
    batches_seen: torch.Tensor

    def __init__(self, dim: int, hidden_size: int, scoring: str, momentum: float) -> None:
        super().__init__()
        self.attention = AttentionPooling(dim, hidden_size, scoring)
        self.momentum = momentum
        self.register_buffer("running_g", torch.zeros(dim))
        self.register_buffer("batches_seen", torch.zeros((), dtype=torch.long))

    def forward(
        self,
        vectors: torch.Tensor,
        present: torch.Tensor,
        batch: GlobalBatch | None = None,
        g: torch.Tensor | None = None,
    ) -> torch.Tensor:
        if not self.training:
            return vectors + (self.running_g if g is None else g)
        samples = vectors
        if batch is not None:
            samples, present = batch.gather(vectors), batch.gather(present)
        g, _ = self.attention(samples, present)
        # An overflow or NaN would stay in a running mean forever.
        self._remember(g.detach().nan_to_num(), present.any() & g.isfinite().all())
        return vectors + g

    @torch.no_grad()
    def _remember(self, g: torch.Tensor, seen: torch.Tensor) -> None:
        # Tensor arithmetic throughout: a branch on `seen` would break a compiled graph.
        self.batches_seen.add_(seen)
        share = (1.0 / self.batches_seen.clamp(min=1)).clamp(min=self.momentum) * seen
        self.running_g.lerp_(g.to(self.running_g.dtype), share.to(self.running_g.dtype))

    @torch.no_grad()
    def over(self, blocks: Iterable[torch.Tensor]) -> torch.Tensor:
        """g over a set of vectors, given in blocks (n, d), in float64; zero over none.

        The softmax is exact: besides a block, memory holds only the largest score, the sum and g.
        """
        largest, total = -math.inf, 0.0
        g = torch.zeros_like(self.running_g, dtype=torch.float64)
        for vectors in blocks:
            if not len(vectors):
                continue
            vectors = vectors.to(self.running_g)
            scores = self.attention.scores(vectors).double()
            highest = max(largest, float(scores.max()))
            weights = (scores - highest).exp()
            kept = math.exp(largest - highest)
            g = kept * g + weights @ vectors.double()
            total = kept * total + float(weights.sum())
            largest = highest
        return g / total if total else g

    @torch.no_grad()
    def settle(self, g: torch.Tensor) -> None:
        """Replace the running mean by g (d,)."""
        self.running_g.copy_(g)

    def extra_repr(self) -> str:
        return f"momentum={self.momentum}"


class MonomodalAttention(nn.Module):
    """Both stages of HIMA for one modality, over rows brought to mean 0 and variance 1 each.

    Encoders differ in the size of their features by orders of magnitude, the learning rate does not.

    Args:
        config: The model's configuration.
        dim: Width d of the modality's rows.

    Shapes:
        rows (B, m, d), mask (B, m), present (B,), True = present; returns v (B, d) and α (B, m).
        A row without the modality gets a learned stand-in, which takes no part in stage 2.
    """

    def __init__(self, config: MMOrientConfig, dim: int) -> None:
        super().__init__()
        sizes = (dim, config.hima_hidden_size, config.hima_scoring)
        self.attention = AttentionPooling(*sizes)
        self.batch_bias = BatchBias(*sizes, config.hima_momentum) if config.use_hima_stage2 else None
        self.missing = nn.Parameter(torch.zeros(dim))

    def forward(
        self,
        rows: torch.Tensor,
        mask: torch.Tensor,
        present: torch.Tensor,
        batch: GlobalBatch | None = None,
        g: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        vectors, weights = self.attend(rows, mask, present)
        if self.batch_bias is not None:
            vectors = self.batch_bias(vectors, present, batch, g)
        return torch.where(present.unsqueeze(-1), vectors, self.missing), weights

    def attend(
        self, rows: torch.Tensor, mask: torch.Tensor, present: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Stage 1 alone: v (B, d), zero without the modality, and α (B, m)."""
        mask = mask & present.unsqueeze(-1)
        return self.attention(standardized(rows, mask), mask)


class HierarchicalAttention(nn.Module):
    """HIMA: separate attention over picture regions and words; [v_img ; v_txt] is their joint feature.

    Args:
        config: The model's configuration.

    Attributes:
        settled_over: Identifies the state of the references over which stage 2's g was computed
            (`settle`); None where g is a running mean, or comes from weights without this information.
        references_digest: In saved weights, the digest (32,) of the references of `settled_over`; zeros for
            None.
    """

    references_digest: torch.Tensor

    def __init__(self, config: MMOrientConfig) -> None:
        super().__init__()
        self.image = MonomodalAttention(config, config.region_dim)
        self.text = MonomodalAttention(config, config.token_dim)
        self.settled_over: object | None = None
        # Batches seen when g was computed; None: to be read when training next begins.
        self._batches_then: int | None = None
        if config.use_hima_stage2:
            self.register_buffer("references_digest", torch.zeros(DIGEST_BYTES, dtype=torch.uint8))

    def forward(
        self,
        features: EncodedFeatures,
        batch: GlobalBatch | None = None,
        g: Mapping[str, torch.Tensor] | None = None,
    ) -> AttentionFeatures:
        """Attend to the rows.

        Args:
            features: Of the rows.
            batch: The rows of all processes.
            g: Stage 2's by modality, (d,), in evaluation; None: its running means.
        """
        g = g or {}
        image, region_attention = self.image(
            features.region_features, features.region_mask, features.image_present, batch, g.get("image")
        )
        text, token_attention = self.text(
            features.token_features, features.token_mask, features.text_present, batch, g.get("text")
        )
        return AttentionFeatures(torch.cat([image, text], -1), region_attention, token_attention)

    def vectors(self, features: EncodedFeatures) -> dict[str, torch.Tensor]:
        """v_img and v_txt of stage 1, (B, d), by modality."""
        image, _ = self.image.attend(features.region_features, features.region_mask, features.image_present)
        text, _ = self.text.attend(features.token_features, features.token_mask, features.text_present)
        return {"image": image, "text": text}

    @property
    def batch_biases(self) -> dict[str, BatchBias]:
        """Stage 2 by modality; empty without it."""
        branches = {"image": self.image.batch_bias, "text": self.text.batch_bias}
        return {modality: bias for modality, bias in branches.items() if bias is not None}

    def settle(self, means: Mapping[str, torch.Tensor], over: object) -> None:
        """Put g over the references, (d,) by modality, in the running means' place.

        Args:
            means: g.
            over: What stands for the references' state.
        """
        for modality, bias in self.batch_biases.items():
            bias.settle(means[modality])
        self.keep(over)

    def keep(self, over: object | None) -> None:
        """Record the state of the references that the present g was computed over."""
        self.settled_over = over
        self._batches_then = self._batches()

    def train(self, mode: bool = True) -> Self:
        """As `Module.train`; after batches of training g is a running mean again."""
        if self.settled_over is not None:
            if mode and self._batches_then is None:
                self._batches_then = self._batches()
            elif not mode and self._batches_then not in (None, self._batches()):
                self.settled_over = None
        return super().train(mode)

    def _batches(self) -> int:
        return sum(int(bias.batches_seen) for bias in self.batch_biases.values())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if self.batch_biases:
            # Weights saved by earlier releases have no digest; its default here is zero.
            digest = state_dict.get(f"{prefix}references_digest")
            state_dict[f"{prefix}references_digest"] = torch.zeros_like(self.references_digest)
            self.settled_over = OTHERS if digest is not None and bool(digest.any()) else None
            self._batches_then = None
        super()._load_from_state_dict(state_dict, prefix, *args)
