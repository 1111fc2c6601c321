"""A network with modulated plasticity that learns in a maze, in PyTorch: what rules/rnn/maze/... of
plastic_bench_rules times, written the plain way from docs/rules/modulated.md and
docs/reinforcement.md. H is a tensor [batch, hidden, hidden] of the graph; mazes and actions are
those of the whole batch at once.
"""

import dataclasses

import torch


@dataclasses.dataclass
class Maze:
    """The published task: 9 x 9 cells, batches of 30 episodes of 200 steps."""

    threads: int
    size: int = 9
    hidden: int = 100
    batch: int = 30
    steps: int = 200

    @property
    def name(self):
        return (
            f"rules/rnn/maze/modulated/size:{self.size}/hidden:{self.hidden}/batch:{self.batch}"
            f"/steps:{self.steps}/threads:{self.threads}"
        )


class Episodes:
    """The mazes of a batch: where everyone is, and where the reward is."""

    moves = torch.tensor([[-1, 0], [1, 0], [0, -1], [0, 1]])  # up, down, left, right
    around = torch.tensor([[i, j] for i in (-1, 0, 1) for j in (-1, 0, 1)])

    def __init__(self, case):
        self.case = case
        n = case.size
        self.walls = torch.zeros(n, n, dtype=torch.bool)
        self.walls[[0, -1], :] = self.walls[:, [0, -1]] = True
        self.walls[::2, ::2] = True
        centre = torch.tensor([n // 2, n // 2])
        self.walls[n // 2, n // 2] = False
        self.free = (~self.walls).nonzero()
        self.place = centre.repeat(case.batch, 1)
        self.goal = self.other_cell(self.place)
        self.time = 0
        self.action = torch.zeros(case.batch, dtype=torch.long)
        self.reward = torch.zeros(case.batch)

    def other_cell(self, cell):
        """A free cell for each row of `cell`, and not that."""
        index = (self.free == cell.unsqueeze(1)).all(2).long().argmax(1)
        drawn = torch.randint(len(self.free) - 1, index.shape)
        return self.free[drawn + (drawn >= index)]

    def observe(self):
        """[batch, 17]"""
        cells = self.place.unsqueeze(1) + self.around
        x = torch.zeros(self.case.batch, 17)
        x[:, :9] = self.walls[cells[..., 0], cells[..., 1]].float()
        x[:, 10] = 1
        x[:, 11] = self.time / self.case.steps
        x[:, 12] = self.reward
        x[torch.arange(self.case.batch), 13 + self.action] = 1
        return x

    def step(self, action):
        to = self.place + self.moves[action]
        blocked = self.walls[to[:, 0], to[:, 1]]
        self.place = torch.where(blocked.unsqueeze(1), self.place, to)
        found = (self.place == self.goal).all(1)
        self.place = torch.where(found.unsqueeze(1), self.other_cell(self.goal), self.place)
        self.reward = 10.0 * found
        self.action = action
        self.time += 1
        return self.reward


class Modulated(torch.nn.Module):
    """h' = tanh(i_fc(x) + h (W + A o H)), m = tanh of the last output, e = m f + g,
    H' = clip(H + (h^T h') o e).
    """

    def __init__(self, inputs, hidden, outputs, clip=2.0):
        super().__init__()
        self.hidden = hidden
        self.clip = clip
        self.i_fc = torch.nn.Linear(inputs, hidden)
        self.out_fc = torch.nn.Linear(hidden, outputs + 1)
        self.weight = torch.nn.Parameter(0.001 * torch.rand(hidden, hidden))
        self.alpha = torch.nn.Parameter(0.001 * torch.rand(hidden, hidden))
        self.f = torch.nn.Parameter(2 * torch.rand(hidden) - 1)
        self.g = torch.nn.Parameter(2 * torch.rand(hidden) - 1)

    def begin(self, batch):
        h = self.weight.new_zeros(batch, self.hidden)
        return h, h.new_zeros(batch, self.hidden, self.hidden)

    def forward(self, x, h, trace):
        """One step: outputs [batch, outputs], h', H'."""
        read = (h.unsqueeze(1) @ (self.weight + self.alpha * trace)).squeeze(1)
        after = torch.tanh(self.i_fc(x) + read)
        outputs = self.out_fc(after)
        e = torch.tanh(outputs[:, -1:]) * self.f + self.g
        trace = trace + h.unsqueeze(2) * (after * e).unsqueeze(1)
        return outputs[:, :-1], after, trace.clamp(-self.clip, self.clip)


def verify(tensors):
    """Largest difference of outputs and gradients from the case modulated, in double."""
    shape = tensors["param.i_fc.weight"].shape
    outputs = tensors["param.out_fc.weight"].shape[1] - 1
    network = Modulated(shape[0], shape[1], outputs).double()
    given = {
        "i_fc.bias": network.i_fc.bias,
        "out_fc.bias": network.out_fc.bias,
        "h_fc.weight": network.weight,
        "h_fc.weight_alpha": network.alpha,
        "rule.fanout.weight": network.f,
        "rule.fanout.bias": network.g,
    }
    turned = {"i_fc.weight": network.i_fc.weight, "out_fc.weight": network.out_fc.weight}
    with torch.no_grad():
        for name, parameter in given.items():
            parameter.copy_(tensors["param." + name])
        for name, parameter in turned.items():
            parameter.copy_(tensors["param." + name].t())
    inputs, target = (tensors[name].transpose(0, 1) for name in ("input", "target"))
    h, trace = network.begin(inputs.shape[1])
    predictions = []
    for x in inputs:
        output, h, trace = network(x, h, trace)
        predictions.append(output)
    predictions = torch.stack(predictions)
    torch.nn.functional.mse_loss(predictions, target).backward()
    pairs = [(parameter.grad, tensors["grad." + name]) for name, parameter in given.items()]
    pairs += [(parameter.grad.t(), tensors["grad." + name]) for name, parameter in turned.items()]
    pairs += [(predictions.detach(), tensors["output"].transpose(0, 1))]
    return max(float((got - want).abs().max() / want.abs().max()) for got, want in pairs)


def prepare(case):
    """The function that is timed: a batch of episodes, its gradient, and a step of Adam."""
    torch.manual_seed(1)
    network = Modulated(17, case.hidden, 5)
    parameters = list(network.parameters())
    optimizer = torch.optim.Adam(parameters, lr=1e-4, eps=1e-4)

    def train_step():
        episodes = Episodes(case)
        h, trace = network.begin(case.batch)
        log_p, values, squares, rewards = [], [], [], []
        for _ in range(case.steps):
            outputs, h, trace = network(episodes.observe(), h, trace)
            policy = torch.distributions.Categorical(logits=outputs[:, :4])
            action = policy.sample()
            log_p.append(policy.log_prob(action))
            squares.append(policy.probs.square().sum(1))
            values.append(outputs[:, 4])
            rewards.append(episodes.step(action))
        later, loss = torch.zeros(case.batch), 0
        for t in reversed(range(case.steps)):
            later = rewards[t] + 0.9 * later
            error = later - values[t]
            loss = loss + 0.03 * squares[t] - log_p[t] * error.detach() + 0.1 * error.square()
        loss = loss.mean() / case.steps
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 4)
        optimizer.step()
        return loss.item()

    return train_step
