"""Layers on behaviour sequences: property-gated LSTM, attention pooling, target attention, convolution with max pooling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from core.errors import ConfigError
from ranker.encoder import Layout
from ranker.inputs import SequenceInput


def unpooled(layout: Layout) -> tuple[list[str], list[str]]:
    """The user's and the request's sequences that are left to the model: of item features, and of properties of the behaviour.

    A sequence that shares its rows with a sparse item feature tells what was behaved on; any other tells how.
    """
    found = [f for side in ("user", "request") for f in layout.lists[side] if f.pooling == "none"]
    items = {f.name for f in layout.sparse["item"]}
    return [f.name for f in found if f.shares in items], [f.name for f in found if f.shares not in items]


def aligned(layout: Layout, names: Sequence[str]) -> int:
    """Total width of sequences whose entries belong together.

    Raises:
        ConfigError: One is no unpooled sequence, or they differ in length.
    """
    known = {f.name: f for features in layout.lists.values() for f in features if f.pooling == "none"}
    for name in names:
        if name not in known:
            have = ", ".join(known) or "none"
            raise ConfigError(f"the model needs the sequence {name!r} with pooling: none; sequences left to the model are {have}")
        if known[name].max_len != known[names[0]].max_len:
            raise ConfigError(
                f"sequences {names[0]!r} and {name!r} differ in max_len; sequences of one behaviour are equally long"
            )
    return sum(known[name].dim for name in names)


def stacked(sequences: Mapping[str, SequenceInput], names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Aligned sequences side by side: entries `(B, L, sum d)` and which are real `(B, L)`."""
    parts = [sequences[name].values for name in names]
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1), sequences[names[0]].mask


class PropertyGatedLSTM(nn.Module):
    """An LSTM whose gates read the behaviour's property p_t, but whose candidate does not (Ni et al., KDD 2018).

    i_t = sigma(W_ei e_t + W_pi p_t + W_hi h_{t-1} + b_i), so f_t and o_t; c~_t = tanh(W_ec e_t + W_hc h_{t-1} + b_c);
    c_t = f_t c_{t-1} + i_t c~_t; h_t = o_t tanh(c_t). It is an LSTM on [e, p] with one block of weights fixed at zero, so the
    library's kernel runs it: the input projections of all steps are one matmul.
    """

    def __init__(self, n_item: int, n_property: int, n_hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(n_item + n_property, n_hidden, batch_first=True)
        mask = torch.ones(4 * n_hidden, n_item + n_property)  # rows in the order i, f, candidate, o
        mask[2 * n_hidden : 3 * n_hidden, n_item:] = 0
        self.register_buffer("mask", mask if n_property else None, persistent=False)
        with torch.no_grad():
            self.lstm.get_parameter("bias_ih_l0")[n_hidden : 2 * n_hidden] += 1  # forget little at first

    def forward(self, items: Tensor, properties: Tensor | None) -> Tensor:
        """`(B, L, De)` and `(B, L, Dp)` to every step's h, `(B, L, H)`; a step never sees later ones, so padding stands last."""
        x = items if properties is None else torch.cat([items, properties], -1)  # (B, L, De + Dp)
        with torch.autocast("cpu", enabled=False):  # oneDNN has no bfloat16 LSTM for processors without AVX-512
            if self.mask is None:
                h: Tensor = self.lstm(x.float())[0]
            else:
                assert isinstance(self.mask, Tensor)
                weights = {"weight_ih_l0": self.lstm.get_parameter("weight_ih_l0") * self.mask}
                h = functional_call(self.lstm, weights, (x.float(),))[0]
        return h


class AttentionPooling(nn.Module):
    """a_t = softmax_t(v' tanh(W [h_t, p_t, query] + b)), rep = sum_t a_t h_t; padding gets nothing, an empty sequence zeros."""

    def __init__(self, n_hidden: int, n_property: int, n_query: int, width: int) -> None:
        super().__init__()
        self.of_step = nn.Linear(n_hidden + n_property, width)
        self.of_query = nn.Linear(n_query, width, bias=False) if n_query else None
        self.v = nn.Linear(width, 1, bias=False)

    def forward(self, h: Tensor, properties: Tensor | None, query: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, L, H)`, `(B, L, Dp)`, `(B, Dq)`, `(B, L)` to the pooled `(B, H)` and the attention `(B, L)`."""
        keys = self.of_step(h if properties is None else torch.cat([h, properties], -1))  # (B, L, A)
        if self.of_query is not None:
            keys = keys + self.of_query(query).unsqueeze(1)
        logits = self.v(torch.tanh(keys)).squeeze(-1)  # (B, L)
        attention = masked_softmax(logits, mask)  # (B, L)
        return torch.bmm(attention.unsqueeze(1), h).squeeze(1), attention


class TargetAttention(nn.Module):
    """DIN's local activation: a weight for each entry from MLP([q, k, q - k, q k]), not normalised (Zhou et al., KDD 2018).

    The first layer is linear in q, k and q k, so each is projected apart: the sequence once a user, the targets once.
    """

    def __init__(self, dim: int, hidden: int = 32) -> None:
        super().__init__()
        self.of_query = nn.Linear(dim, hidden)
        self.of_key = nn.Linear(dim, hidden, bias=False)
        self.of_product = nn.Linear(dim, hidden, bias=False)
        self.out = nn.Linear(hidden, 1)

    def forward(self, query: Tensor, keys: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Targets `(B, d)`, entries `(1 or B, L, d)`, their mask, to the interest `(B, d)` and the weights `(B, L)`."""
        product = query.unsqueeze(1) * keys  # (B, L, d)
        h = self.of_query(query).unsqueeze(1) + self.of_key(keys) + self.of_product(product)  # (B, L, H)
        weight = self.out(torch.relu(h)).squeeze(-1) * mask  # (B, L)
        if keys.shape[0] == 1:
            return weight @ keys[0], weight
        return torch.bmm(weight.unsqueeze(1), keys).squeeze(1), weight


class MaxConvolution(nn.Module):
    """Filters of widths 1 to W over the sequence, ReLU, the maximum over time (Kim, EMNLP 2014), as one convolution."""

    def __init__(self, n_in: int, n_filters: int, widths: Sequence[int] = (1, 2, 3, 4, 5)) -> None:
        super().__init__()
        self.longest = max(widths)
        self.n_out = n_filters * len(widths)
        self.convolution = nn.Conv1d(n_in, self.n_out, self.longest)
        taps = torch.arange(self.longest)[None, None] < torch.tensor(list(widths)).repeat_interleave(n_filters)[:, None, None]
        self.register_buffer("taps", taps.float(), persistent=False)  # (n_out, 1, W): a narrow filter has fewer taps

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(B, L, d)` and `(B, L)` to `(B, n_out)`; an empty sequence gives zeros."""
        assert isinstance(self.taps, Tensor)
        padded = F.pad(x.transpose(1, 2), (0, self.longest - 1))  # (B, d, L + W - 1)
        h = F.conv1d(padded, self.convolution.weight * self.taps, self.convolution.bias)  # (B, n_out, L)
        return (h.relu() * mask.unsqueeze(1)).amax(-1)


def masked_softmax(logits: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the real entries of each row; zeros where there are none.

    >>> masked_softmax(torch.tensor([[0.0, 0.0, 9.0], [1.0, 1.0, 1.0]]), torch.tensor([[1, 1, 0], [0, 0, 0]]) > 0).tolist()
    [[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]
    """
    low = logits.masked_fill(~mask, torch.finfo(logits.dtype).min)
    return torch.softmax(low, -1) * mask
