"""The same networks in PyTorch, written the plain way from the equations in docs/equations.md.

Fast weights are tensors [batch, outputs, inputs] of the graph. A layer is a product of batches of
matrices. The gradient rule asks torch.autograd.grad for its inner gradient, and all other
derivatives are autograd's. Names and data are those of benchmarks/model.hpp:
  train_step/CELL/RULE/hidden:H/batch:B/steps:T/threads:N   forward, backward, clip, AdamW
  forward/...                                               the same episodes, no derivatives
  rules/clamp/pattern_completion/bits:N/threads:N           pytorch_patterns.py
  rules/rnn/maze/modulated/.../threads:N                    pytorch_maze.py
Before anything is timed, every case in tests/data that has only options of these networks is
computed in double. Each timed network is then compared with itself in double.

    pytorch_bench.py                  # all: one line NAME,MILLISECONDS each
    pytorch_bench.py --filter REGEX   # those whose names match
    pytorch_bench.py --list           # the names
    pytorch_bench.py --verify         # only the cases in tests/data, with the largest differences
    pytorch_bench.py --about          # the version of PyTorch, and what slows it down
"""

import argparse
import collections
import copy
import dataclasses
import json
import math
import os
import pathlib
import re
import statistics
import sys
import time

import numpy
import pytorch_maze
import pytorch_patterns
import torch

INPUTS, OUTPUTS, EXTRA = 16, 1, 4  # of the timed networks
REPETITIONS = 5
LEAST_SECONDS = 0.1  # of a repetition
DATA = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data"

# Of the largest magnitude of a tensor.
DOUBLE_TOLERANCE = 1e-9
SINGLE_TOLERANCE = 1e-3


@dataclasses.dataclass
class Settings:
    """What a network is; the defaults are those of the timed networks."""

    cell: str = "rnn"  # or lstm
    rule: str = "gradient"  # or hebbian, none
    inputs: int = INPUTS
    hidden: int = 128
    outputs: int = OUTPUTS
    extra: int = EXTRA
    modulation: bool = True
    eta0: float = 0.1
    decay0: float = 0.1
    max_norm: float = 1.0
    inner_scale: float = 1.0
    alpha_mode: str = "random"  # or none: A and a are 1

    @property
    def all_outputs(self):
        return self.outputs + self.extra + (1 if self.modulation else 0)


# Fast weights [batch, outputs, inputs] and biases [batch, outputs] of a layer. The bias is None
# where the rule never changes it.
Fast = collections.namedtuple("Fast", "weight bias")


class Layer(torch.nn.Module):
    """y = (W + w) x + b + beta for each sample; without fast weights y = W x + b."""

    def __init__(self, inputs, outputs, spread, with_alpha):
        super().__init__()
        bound = spread / math.sqrt(outputs)
        self.weight = torch.nn.Parameter(torch.empty(outputs, inputs).uniform_(-bound, bound))
        self.bias = torch.nn.Parameter(torch.empty(outputs).uniform_(-bound, bound))
        self.weight_alpha = self.bias_alpha = None
        if with_alpha:
            self.weight_alpha = torch.nn.Parameter(torch.empty(outputs, inputs).uniform_(-1, 1))
            self.bias_alpha = torch.nn.Parameter(torch.empty(outputs).uniform_(-1, 1))

    def zero_fast(self, batch, with_bias):
        outputs, inputs = self.weight.shape
        weight = self.weight.new_zeros(batch, outputs, inputs)
        return Fast(weight, self.weight.new_zeros(batch, outputs) if with_bias else None)

    def forward(self, x, fast):
        if fast is None:
            return torch.nn.functional.linear(x, self.weight, self.bias)
        y = torch.bmm(self.weight + fast.weight, x.unsqueeze(2)).squeeze(2) + self.bias
        return y if fast.bias is None else y + fast.bias

    def changed(self, fast, proposal, rate, decay):
        """The next fast weights. proposal: Fast; rate and decay: [batch]."""
        weight, bias = proposal
        if self.weight_alpha is not None:
            weight = self.weight_alpha * weight
        weight = (1 - decay)[:, None, None] * fast.weight + rate[:, None, None] * weight
        if bias is None:
            return Fast(weight, None)
        if self.bias_alpha is not None:
            bias = self.bias_alpha * bias
        return Fast(weight, (1 - decay)[:, None] * fast.bias + rate[:, None] * bias)


# Of one time step: of every layer the input, the output before activation and the activity; and all
# outputs of the network.
Step = collections.namedtuple("Step", "pre output activity all_outputs")


class Network(torch.nn.Module):
    """A plastic network over whole episodes."""

    def __init__(self, settings):
        super().__init__()
        self.settings = s = settings
        self.plastic = s.rule != "none"
        with_alpha = self.plastic and s.alpha_mode != "none"
        gates, spread = (4, 2) if s.cell == "lstm" else (1, 1)
        self.in_fc = Layer(s.inputs, s.hidden, 1, with_alpha)
        self.h_fc = Layer(s.hidden, gates * s.hidden, spread, with_alpha)
        self.i_fc = Layer(s.hidden, gates * s.hidden, spread, with_alpha)
        self.out_fc = Layer(s.hidden, s.all_outputs, 1, with_alpha)
        self.out_scale = torch.nn.Parameter(torch.ones(s.all_outputs))

    @property
    def layers(self):
        return [self.in_fc, self.h_fc, self.i_fc, self.out_fc]

    def forward(self, inputs):
        """inputs [steps, batch, inputs]; returns predictions [steps, batch, outputs]."""
        s = self.settings
        steps, batch = inputs.shape[:2]
        training = torch.is_grad_enabled()
        h = c = inputs.new_zeros(batch, s.hidden)
        fast = [None] * 4
        if self.plastic:
            fast = [layer.zero_fast(batch, s.rule == "gradient") for layer in self.layers]
        predictions = []
        for t in range(steps):
            changes = self.plastic and t + 1 < steps  # nothing reads the change of the last step
            # The inner gradient needs a graph of the step even where training needs none.
            inner = changes and s.rule == "gradient"
            with torch.set_grad_enabled(training or inner):
                h, c, step = self.advance(inputs[t], h, c, fast)
                post = self.inner_gradient(step, training) if inner else step.activity
            if inner and not training:
                h, c, o = h.detach(), c.detach(), step.all_outputs.detach()
                step = step._replace(pre=[pre.detach() for pre in step.pre], all_outputs=o)
            predictions.append(step.all_outputs[:, : s.outputs])
            if changes:
                fast = self.change(fast, step, post)
        return torch.stack(predictions)

    def advance(self, x, h, c, fast):
        """One step: h', c' and the Step."""
        y_in = self.in_fc(x, fast[0])
        e = torch.relu(y_in)
        y_h, y_i = self.h_fc(h, fast[1]), self.i_fc(e, fast[2])
        pre = [x, h, e]
        z = y_h + y_i
        if self.settings.cell == "lstm":
            i, f, g, o = z.chunk(4, dim=1)
            i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
            c = f * c + i * g
            h = o * torch.tanh(c)
            activity = torch.cat([i, f, g, o], dim=1) if self.settings.rule == "hebbian" else None
        else:
            h = activity = torch.relu(z)
        y_out = self.out_fc(h, fast[3])
        return h, c, Step(pre + [h], [y_in, y_h, y_i, y_out], [e, activity, activity, y_out], y_out)

    def inner_gradient(self, step, create_graph):
        """Of L = s / O * sum over k of (v_k o_k)^2, for each sample, at the layers' outputs."""
        s = self.settings
        errors = (self.out_scale * step.all_outputs).square()
        loss = s.inner_scale / s.all_outputs * errors.sum()
        return torch.autograd.grad(loss, step.output, create_graph=create_graph)

    def change(self, fast, step, post):
        """The fast weights after a step: w' = (1 - lambda) w + eta' A o (post pre^T)."""
        s = self.settings
        m = torch.ones_like(step.all_outputs[:, -1])
        if s.modulation:
            m = 2 * torch.sigmoid(step.all_outputs[:, -1])
        proposals = [
            Fast(q.unsqueeze(2) * p.unsqueeze(1), q if s.rule == "gradient" else None)
            for p, q in zip(step.pre, post)
        ]
        parts = [part for proposal in proposals for part in proposal if part is not None]
        square = sum(part.square().flatten(1).sum(1) for part in parts)
        # The bound is taken before the root, whose derivative at 0 is infinite.
        rate = s.eta0 * m * s.max_norm / square.clamp(min=s.max_norm**2).sqrt()
        return [
            layer.changed(was, proposal, rate, s.decay0 * m)
            for layer, was, proposal in zip(self.layers, fast, proposals)
        ]


def read_safetensors(path):
    """Metadata and tensors in double of a file of doubles."""
    content = path.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        if entry["dtype"] != "F64":
            sys.exit(f"{path}: {name} is {entry['dtype']}, not F64")
        first, last = entry["data_offsets"]
        values = numpy.frombuffer(content[begin + first : begin + last], "<f8")
        tensors[name] = torch.from_numpy(values.reshape(entry["shape"]).copy())
    return metadata, tensors


def settings_from(metadata):
    """None where the file has an option that these networks lack."""
    if metadata["layer_norm"] != "false" or float(metadata["weight_clip"]) != 0:
        return None
    convert = {int: int, float: float, str: str, bool: lambda text: text == "true"}
    fields = dataclasses.fields(Settings)
    return Settings(**{field.name: convert[field.type](metadata[field.name]) for field in fields})


def difference(got, expected):
    """Largest difference as a part of the largest magnitude; infinite where one is not finite."""
    if got.shape != expected.shape or not torch.isfinite(got).all():
        return math.inf
    return float((got - expected).abs().max()) / (float(expected.abs().max()) or 1.0)


def turned(tensor):
    """Files hold weights as [inputs, outputs], the layers here as [outputs, inputs]."""
    return tensor.t() if tensor.dim() == 2 else tensor


def verify_case(settings, tensors):
    """Largest difference of output, of loss and of all gradients from those of the file."""
    network = Network(settings).double()
    parameters = dict(network.named_parameters())
    held = {name[len("param.") :] for name in tensors if name.startswith("param.")}
    if held != set(parameters):
        return {"names of the parameters": math.inf}
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(turned(tensors["param." + name]))
    inputs, target = (tensors[name].transpose(0, 1) for name in ("input", "target"))
    predictions = network(inputs)
    loss = torch.nn.functional.mse_loss(predictions, target)
    loss.backward()
    with torch.no_grad():
        alone = network(inputs)
    gradients = []
    for name, parameter in parameters.items():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        gradients.append(difference(gradient, turned(tensors["grad." + name])))
    output = tensors["output"].transpose(0, 1)
    return {
        "output": difference(predictions, output),
        "output without derivatives": difference(alone, output),
        "loss": difference(loss.reshape(1), tensors["loss"]),
        "gradients": max(gradients),
    }


def verify():
    """Compares with all fitting cases of tests/data; returns a report, or exits at a difference."""
    report, computed = [], set()
    for path in sorted(DATA.glob("*.safetensors")):
        metadata, tensors = read_safetensors(path)
        settings = settings_from(metadata)
        if settings is None:
            continue
        differences = verify_case(settings, tensors)
        computed.add((settings.cell, settings.rule))
        text = ", ".join(f"{what} {value:.1e}" for what, value in differences.items())
        report.append(f"{path.stem}: {text}")
        if not max(differences.values()) <= DOUBLE_TOLERANCE:
            sys.exit(f"wrong result: {report[-1]}")
    missing = {(cell, rule) for cell in CELLS for rule in RULES} - computed
    if missing:
        sys.exit(f"{DATA} has no case for {sorted(missing)}")
    for name, other in (("trace_clamp", pytorch_patterns), ("modulated", pytorch_maze)):
        error = other.verify(read_safetensors(DATA / "rules" / f"{name}.safetensors")[1])
        if not error <= DOUBLE_TOLERANCE:
            sys.exit(f"{name}: wrong result: off by {error:.1e}")
        report.append(f"{name}: {error:.1e}")
    return report


CELLS = ("rnn", "lstm")
RULES = ("gradient", "hebbian", "none")


@dataclasses.dataclass
class Case:
    """One network at one size; the sizes are those of benchmarks/model.hpp."""

    kind: str  # train_step or forward
    cell: str
    rule: str
    steps: int
    threads: int
    hidden: int = 128
    batch: int = 64

    @property
    def name(self):
        return (
            f"{self.kind}/{self.cell}/{self.rule}/hidden:{self.hidden}/batch:{self.batch}"
            f"/steps:{self.steps}/threads:{self.threads}"
        )


def cases():
    all_threads = len(os.sched_getaffinity(0))
    others = [pytorch_patterns.Patterns(threads=1)]
    others += [pytorch_maze.Maze(threads) for threads in sorted({1, all_threads})]
    return others + [
        Case(kind, cell, rule, steps, threads)
        for cell in CELLS
        for rule in RULES
        for kind in ("train_step", "forward")
        for threads in sorted({1, min(2, all_threads), all_threads})
        for steps in ((20, 60) if cell == "rnn" else (20,))
    ]


def data(case):
    """Inputs in [0, 1) and targets in [-1, 1), time first: the numbers of benchmarks/model.hpp."""
    random = numpy.random.RandomState(1)

    def draw(size):
        count = case.batch * case.steps * size
        values = numpy.frombuffer(random.bytes(4 * count), "<u4") / 2.0**32
        values = values.astype(numpy.float32).reshape(case.batch, case.steps, size)
        return torch.from_numpy(values).transpose(0, 1).contiguous()

    inputs = draw(INPUTS)
    return inputs, 2 * draw(OUTPUTS) - 1


def prepare(case):
    """The function that is timed; it returns the loss."""
    if isinstance(case, pytorch_patterns.Patterns):
        return pytorch_patterns.prepare(case)
    if isinstance(case, pytorch_maze.Maze):
        return pytorch_maze.prepare(case)
    torch.manual_seed(1)
    network = Network(Settings(cell=case.cell, rule=case.rule, hidden=case.hidden))
    inputs, targets = data(case)
    with torch.no_grad():
        # In single precision a unit that rounds to the other side of its kink changes all that
        # follows, so that long episodes are compared in their first steps.
        first = inputs[:20]
        error = difference(network(first), copy.deepcopy(network).double()(first.double()).float())
    if not error <= SINGLE_TOLERANCE:
        sys.exit(f"{case.name}: wrong result: single precision differs by {error:.1e} from double")
    parameters = list(network.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0, amsgrad=True)

    def train_step():
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.mse_loss(network(inputs), targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5)
        optimizer.step()
        return loss.item()

    def forward():
        with torch.no_grad():
            return torch.nn.functional.mse_loss(network(inputs), targets).item()

    return train_step if case.kind == "train_step" else forward


def median_milliseconds(case):
    torch.set_num_threads(case.threads)
    timed = prepare(case)

    def seconds(count):
        begin = time.perf_counter()
        for _ in range(count):
            loss = timed()
        end = time.perf_counter()
        if not math.isfinite(loss):
            sys.exit(f"{case.name}: wrong result: the loss is {loss}")
        return (end - begin) / count

    seconds(1)
    count = max(1, math.ceil(LEAST_SECONDS / seconds(1)))
    return 1e3 * statistics.median(seconds(count) for _ in range(REPETITIONS))


def about():
    """The version of PyTorch, and a warning if its products of matrices are those of plain loops."""
    lines = [f"PyTorch {torch.__version__}"]
    maps = pathlib.Path("/proc/self/maps")
    if maps.exists() and re.search(r"/blas/libblas\.so", maps.read_text()):
        lines.append(
            "This PyTorch has a BLAS of plain loops. With a fast one (Debian: libopenblas0-pthread)\n"
            "the networks without fast weights take a tenth of the time, the others nine tenths."
        )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description="Times the networks of this library in PyTorch.")
    parser.add_argument("--filter", default="", help="a regular expression; all names without it")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    parser.add_argument("--verify", action="store_true", help="verify and end")
    parser.add_argument("--about", action="store_true", help="print the version and end")
    arguments = parser.parse_args()
    if arguments.about:
        print(about())
        return
    chosen = [case for case in cases() if re.search(arguments.filter, case.name)]
    if not chosen:
        sys.exit(f"no benchmark has a name that matches {arguments.filter}")
    if arguments.list:
        print("\n".join(case.name for case in chosen))
        return
    report = verify()
    if arguments.verify:
        print("\n".join(report))
        return
    for case in chosen:
        print(f"{case.name},{median_milliseconds(case):.4f}", flush=True)


if __name__ == "__main__":
    main()
