"""Completion of binary patterns by a network with a plastic trace, in PyTorch: what
rules/clamp/pattern_completion/... of plastic_bench_rules times, written the plain way from
docs/rules/trace.md. H is a tensor [batch, hidden, hidden] of the graph.
"""

import dataclasses

import torch


@dataclasses.dataclass
class Patterns:
    """The published task: 1000 bits, 106 steps, one episode a batch."""

    threads: int
    bits: int = 1000
    patterns: int = 5
    rounds: int = 2
    shown: int = 6
    blank: int = 4
    probe: int = 6

    @property
    def name(self):
        return f"rules/clamp/pattern_completion/bits:{self.bits}/threads:{self.threads}"

    def episode(self):
        """Inputs [steps, 1, bits], and the pattern that the last step must complete."""
        patterns = torch.randint(0, 2, (self.patterns, self.bits)) * 2.0 - 1
        rest = torch.zeros(self.blank, self.bits)
        parts = []
        for _ in range(self.rounds):
            for k in torch.randperm(self.patterns):
                parts += [patterns[k].expand(self.shown, -1), rest]
        target = patterns[0]
        probe = target.clone()
        probe[torch.randperm(self.bits)[: self.bits // 2]] = 0
        parts.append(probe.expand(self.probe, -1))
        return torch.cat(parts).unsqueeze(1), target


class ClampedTrace(torch.nn.Module):
    """h'_j = x_j where it is not 0, else tanh(h (W + A o H))_j; H' = (1 - eta) H + eta h^T h'."""

    def __init__(self, hidden, alpha_shape=None):
        super().__init__()
        self.hidden = hidden
        self.weight = torch.nn.Parameter(0.01 * torch.randn(hidden, hidden))
        self.alpha = torch.nn.Parameter(0.01 * torch.randn(alpha_shape or (hidden, hidden)))
        self.eta = torch.nn.Parameter(torch.tensor([0.01]))

    def forward(self, inputs):
        """inputs [steps, batch, inputs]; returns h' of every step."""
        batch = inputs.shape[1]
        h = inputs.new_zeros(batch, self.hidden)
        trace = inputs.new_zeros(batch, self.hidden, self.hidden)
        states = []
        for x in inputs:
            x = torch.nn.functional.pad(x, (0, self.hidden - x.shape[1]))
            free = torch.tanh((h.unsqueeze(1) @ (self.weight + self.alpha * trace)).squeeze(1))
            after = torch.where(x != 0, x, free)
            product = h.unsqueeze(2) * after.unsqueeze(1)
            trace = (1 - self.eta) * trace + self.eta * product
            h = after
            states.append(h)
        return torch.stack(states)


def verify(tensors):
    """Largest difference of outputs and gradients from the case trace_clamp, in double."""
    hidden = tensors["param.h_fc.weight"].shape[0]
    network = ClampedTrace(hidden, (1,)).double()
    out_weight = tensors["param.out_fc.weight"].clone().requires_grad_()
    given = {"h_fc.weight": network.weight, "h_fc.weight_alpha": network.alpha, "rule.eta": network.eta}
    with torch.no_grad():
        for name, parameter in given.items():
            parameter.copy_(tensors["param." + name])
    states = network(tensors["input"].transpose(0, 1))
    output = states @ out_weight + tensors["param.out_fc.bias"]
    torch.nn.functional.mse_loss(output, tensors["target"].transpose(0, 1)).backward()
    pairs = [(parameter.grad, tensors["grad." + name]) for name, parameter in given.items()]
    pairs += [(out_weight.grad, tensors["grad.out_fc.weight"])]
    pairs += [(output.detach(), tensors["output"].transpose(0, 1))]
    return max(float((got - want).abs().max() / want.abs().max()) for got, want in pairs)


def prepare(case):
    """The function that is timed: an episode, its gradient, and a step of AdamW."""
    torch.manual_seed(1)
    network = ClampedTrace(case.bits + 1)
    parameters = list(network.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0, amsgrad=True)

    def train_step():
        inputs, target = case.episode()
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.mse_loss(network(inputs)[-1, 0, : case.bits], target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5)
        optimizer.step()
        return loss.item()

    return train_step
