"""Checks that compilers of torch understand the network."""

from __future__ import annotations

import torch

from iqazoo.testing.subject import Subject


def check_compile(subject: Subject) -> None:
    """`torch.compile` gives the same scores, and gradients where there are some."""
    image, *reference = subject.inputs()
    metric = subject.metric
    compiled = torch.compile(subject.new().network)
    image.requires_grad_(subject.spec.differentiable)
    expected, got = metric.network(image, *reference), compiled(image, *reference)
    subject.require_equal(got, expected, "the compiled network's scores")
    if subject.spec.differentiable:
        gradients = [torch.autograd.grad(scores.sum(), image)[0] for scores in (got, expected)]
        torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3 * gradients[1].abs().max().item())


def check_export(subject: Subject) -> None:
    """`torch.export` takes the network, and the exported program gives the same scores."""
    inputs = subject.inputs()
    with torch.no_grad():
        program = torch.export.export(subject.metric.network, inputs)
    other = subject.inputs()[0].flip(0)
    exported = subject.score(other, *inputs[1:], metric=program.module())
    subject.require_equal(exported, subject.score(other, *inputs[1:]), "the exported network's scores")
