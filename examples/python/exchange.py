"""Takes a network from PyTorch to plastic and back, and compares what both say.

Usage: exchange.py FOLDER_OF_THE_PROGRAMS FOLDER_TO_WRITE_TO
"""

import subprocess
import sys

import numpy
import torch

import tensor_file

SETTINGS = {
    "cell": "lstm", "rule": "none", "inputs": "3", "hidden": "8", "outputs": "2", "extra": "1",
    "modulation": "true", "eta0": "0.1", "decay0": "0.1", "max_norm": "1", "weight_clip": "0",
    "layer_norm": "false", "alpha_mode": "random", "inner_scale": "0.015625", "seed": "0",
}


class Network(torch.nn.Module):
    """The published network with rule "none": its names and shapes."""

    def __init__(self, cell, inputs, hidden, all_outputs):
        super().__init__()
        self.in_fc = torch.nn.Sequential(torch.nn.Linear(inputs, hidden), torch.nn.ReLU())
        if cell == "lstm":
            self.rnn = torch.nn.LSTMCell(hidden, hidden)
        else:
            self.rnn = torch.nn.RNNCell(hidden, hidden, nonlinearity="relu")
        self.out_fc = torch.nn.Sequential(torch.nn.Linear(hidden, all_outputs))
        self.out_weight = torch.nn.Parameter(torch.ones(all_outputs))

    def forward(self, episodes):
        """episodes: [batch, steps, inputs]; returns [batch, steps, all outputs]."""
        state, outputs = None, []
        for step in range(episodes.shape[1]):
            state = self.rnn(self.in_fc(episodes[:, step]), state)
            hidden = state[0] if isinstance(state, tuple) else state
            outputs.append(self.out_fc(hidden))
        return torch.stack(outputs, dim=1)


def save_state(model, path, settings):
    """What `state_dict` reads: the state dictionary, and the settings of the network."""
    state = {name: values.numpy() for name, values in model.state_dict().items()}
    tensor_file.write(path, state, settings)


def load_state(model, path):
    """The reverse. Raises where a name or a shape is not the model's."""
    tensors, _ = tensor_file.read(path)
    model.load_state_dict({name: torch.from_numpy(values) for name, values in tensors.items()})


def compare(cell, programs, folder):
    """Runs one network here and there; returns the largest difference of their outputs."""
    settings = dict(SETTINGS, cell=cell)
    model = Network(cell, 3, 8, all_outputs=2 + 1 + 1)  # outputs, extra, modulation
    save_state(model, f"{folder}/{cell}.safetensors", settings)

    # A model file, with input for `replay`.
    model_file = f"{folder}/{cell}_model.safetensors"
    subprocess.run([f"{programs}/state_dict", f"{folder}/{cell}.safetensors", model_file], check=True)
    tensors, settings = tensor_file.read(model_file)
    episodes = torch.randn(4, 10, 3)
    tensor_file.write(model_file, dict(tensors, input=episodes.numpy()), settings)
    subprocess.run([f"{programs}/replay", model_file, f"{folder}/{cell}_run.safetensors"], check=True)
    results, _ = tensor_file.read(f"{folder}/{cell}_run.safetensors")

    # And back: the same bits.
    again = f"{folder}/{cell}_again.safetensors"
    tensor_file.write(model_file, tensors, settings)
    subprocess.run([f"{programs}/state_dict", model_file, again], check=True)
    copy = Network(cell, 3, 8, all_outputs=4)
    load_state(copy, again)
    for name, values in model.state_dict().items():
        assert torch.equal(values, copy.state_dict()[name]), name

    with torch.no_grad():
        expected = model(episodes)[..., :2].numpy()
    return numpy.abs(results["output"] - expected).max()


if __name__ == "__main__":
    torch.manual_seed(0)
    for kind in ("rnn", "lstm"):
        difference = compare(kind, sys.argv[1], sys.argv[2])
        print(f"{kind}: largest difference {difference:.1e}")
        assert difference < 1e-5
