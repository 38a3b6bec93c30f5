"""Losses that several methods share."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor


def sample_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each sample, (B,), from logits (B, K) and labels (B,)."""
    return F.cross_entropy(logits, labels, reduction="none")


def compute_kl_divergence(target_logits: Tensor, logits: Tensor, temperature: Tensor | float = 1.0) -> Tensor:
    """KL(target || network), a scalar: the sum over classes, averaged over the batch.

    Both logits (B, K) are divided by `temperature` before their softmax. The factor T^2 with which distillation
    makes up for its smaller gradients (Hinton et al. 2015) is the caller's.
    """
    target, own = (F.log_softmax(one.float() / temperature, dim=1) for one in (target_logits, logits))
    return F.kl_div(own, target, reduction="batchmean", log_target=True)


def npo_loss(cross_entropy: Tensor, reference: Tensor, beta: Tensor | float) -> Tensor:
    """NPO's loss of each sample, (B,); going down it raises the cross-entropy.

    -(2/beta) log sigmoid(beta (CE - CE_ref)), the negative preference optimisation of Zhang et al. 2024
    (arXiv 2404.05868, eq. 3) with log-probabilities written as cross-entropies; gradient ascent as beta -> 0.
    """
    return -(2 / beta) * F.logsigmoid(beta * (cross_entropy - reference))


def redirect_loss(cross_entropy: Tensor, reference: Tensor, beta: Tensor | float) -> Tensor:
    """NPO's loss with its sign turned, (B,): going down it lowers the cross-entropy, with slope
    2 sigmoid(-beta (CE - CE_ref)), so that samples far above their reference weigh little (REM, step 3.1)."""
    return -npo_loss(cross_entropy, reference, beta)


def proportion_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy between the proportions of `labels` (B,) and the mean prediction of `logits` (B, K), a scalar.

    It asks that each class be predicted about as often as it occurs, and not of which samples: the loss of learning
    from label proportions (Tsai and Lin 2020, arXiv 1910.13188, section 2).
    """
    proportions = F.one_hot(labels, logits.shape[1]).float().mean(0)
    log_mean = F.log_softmax(logits.float(), dim=1).logsumexp(0) - math.log(len(labels))
    return -(proportions * log_mean).sum()


def small_loss(cross_entropy: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy, from that of each sample (B,), of the half of each class with the smallest, a scalar.

    Of an odd number the smaller half; a class of one sample has none, and without any half the loss is 0. The slope of
    a chosen sample does not fade with its loss. Wrong labels are not chosen while in their class they are the fewer and
    have the larger losses: small-loss selection (Han et al. 2018, arXiv 1804.06872, section 2), within each class.
    """
    values = cross_entropy.detach()
    same = labels[:, None] == labels
    smaller = values < values[:, None]
    before = smaller | ((values == values[:, None]) & same.tril(-1))  # of equal losses the first
    chosen = 2 * ((before & same).sum(1) + 1) <= same.sum(1)
    return (cross_entropy * chosen).sum() / chosen.sum().clamp(min=1)


def linear_mmd(outputs: Tensor, target: Tensor) -> Tensor:
    """Squared maximum mean discrepancy with a linear kernel, a scalar, of logits (B, K) to `target` (C, K).

    The mean over classes of the squared difference of the two mean logits, less what is common to all classes, which
    no softmax sees (Gretton et al. 2012, JMLR 13, section 2; as a loss between domains: Tzeng et al. 2014, arXiv
    1412.3474).
    """
    gap = outputs.float().mean(0) - target.float().mean(0)
    return (gap - gap.mean()).square().mean()
