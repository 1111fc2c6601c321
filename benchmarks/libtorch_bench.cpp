// The same networks in libtorch, as the peer. Names:
//   libtorch/closed_form/train_step/CELL/RULE/hidden:H/batch:B/steps:T/threads:N
//   libtorch/autograd/...    and    libtorch/.../forward/...
//   libtorch/conv2d/forward/...    and    libtorch/conv2d/backward/...
// each followed by /real_time.
//
// closed_form is the best way we know to write it: the inner gradient by hand, the rank-one updates
// in fused operations (baddbmm, addcmul) on the fast weights [batch, in, out], one product per
// layer for x (W + w). autograd is the plain way, that of the published code: the inner gradient by
// torch::autograd::grad with create_graph, the updates as tensor expressions. In both the outer
// gradient is autograd's. Without a rule (`none`) the two are the same. Every result is compared
// with naive loops in double before it is timed.

#include <omp.h>
#include <torch/torch.h>

#include <array>
#include <cmath>
#include <utility>
#include <vector>

#include "conv.hpp"
#include "harness.hpp"
#include "naive.hpp"
#include "verify.hpp"

namespace {

using namespace bench;
using torch::Tensor;

constexpr double tolerance = 1e-3;
constexpr std::size_t in_fc = 0, h_fc = 1, i_fc = 2, out_fc = 3;

naive::Settings settings_of(const Case& c) {
  naive::Settings s;
  s.lstm = c.lstm;
  s.rule = c.rule;
  s.hidden = static_cast<std::size_t>(c.hidden);
  s.inner_scale = 1;
  return s;
}

naive::Numbers start(const naive::Layout& layout, const naive::Settings& s) {
  torch::manual_seed(1);
  naive::Numbers p(layout.size, 0.0);
  const auto fill = [&](std::size_t first, std::size_t count, double k) {
    const Tensor drawn =
        (torch::rand({static_cast<std::int64_t>(count)}, torch::kDouble) * 2 - 1) * k;
    std::copy_n(drawn.data_ptr<double>(), count, p.begin() + static_cast<std::ptrdiff_t>(first));
  };
  for (std::size_t l = 0; l < 4; ++l) {
    const naive::Layer& layer = layout.layers[l];
    const double spread = s.lstm && (l == h_fc || l == i_fc) ? 2 : 1;
    const double k = spread / std::sqrt(static_cast<double>(layer.outputs));
    fill(layer.weight, layer.inputs * layer.outputs, k);
    fill(layer.bias, layer.outputs, k);
    if (s.rule == Rule::none) continue;
    fill(layer.alpha, layer.inputs * layer.outputs, 1);
    fill(layer.bias_alpha, layer.outputs, 1);
  }
  std::fill(p.begin() + static_cast<std::ptrdiff_t>(layout.out_scale), p.end(), 1.0);
  return p;
}

// Slow weights [in, out] and bias [out] of a layer, and their alphas.
struct Slow {
  Tensor weight, bias, alpha, bias_alpha;
};

// Fast weights [batch, in, out] and bias [batch, 1, out]; undefined where there are none.
struct Fast {
  Tensor weight, bias;
};

template <bool ClosedForm>
class Network {
 public:
  explicit Network(const Case& c) : case_(c), settings_(settings_of(c)), layout_(settings_) {
    const naive::Numbers p = parameters();
    const auto leaf = [&](std::size_t first, std::vector<std::int64_t> shape) {
      const Tensor all = torch::tensor(at::ArrayRef<double>(p), torch::kDouble);
      std::int64_t count = 1;
      for (const std::int64_t n : shape) count *= n;
      const auto at = static_cast<std::int64_t>(first);
      Tensor values = all.slice(0, at, at + count).to(torch::kFloat).reshape(shape).clone();
      values.set_requires_grad(true);
      leaves_.push_back(values);
      places_.push_back(first);
      return values;
    };
    for (std::size_t l = 0; l < 4; ++l) {
      const naive::Layer& from = layout_.layers[l];
      const auto in = static_cast<std::int64_t>(from.inputs);
      const auto out = static_cast<std::int64_t>(from.outputs);
      slow_[l].weight = leaf(from.weight, {in, out});
      slow_[l].bias = leaf(from.bias, {out});
      if (!plastic()) continue;
      slow_[l].alpha = leaf(from.alpha, {in, out});
      slow_[l].bias_alpha = leaf(from.bias_alpha, {out});
    }
    out_scale_ = leaf(layout_.out_scale, {static_cast<std::int64_t>(settings_.all_outputs())});
    optimizer_ = std::make_unique<torch::optim::AdamW>(
        leaves_, torch::optim::AdamWOptions(1e-3).weight_decay(0).amsgrad(true));
  }

  naive::Numbers parameters() const { return start(layout_, settings_); }
  const naive::Layout& layout() const { return layout_; }
  const naive::Settings& settings() const { return settings_; }

  // inputs [steps, batch, in], targets [steps, batch, out].
  Tensor loss(const Tensor& inputs, const Tensor& targets) {
    return torch::mse_loss(run(inputs), targets);
  }

  void train_step(const Tensor& inputs, const Tensor& targets) {
    optimizer_->zero_grad();
    loss(inputs, targets).backward();
    torch::nn::utils::clip_grad_norm_(leaves_, 5);
    optimizer_->step();
  }

  naive::Numbers gradient() const {
    naive::Numbers g(layout_.size, 0.0);
    for (std::size_t k = 0; k < leaves_.size(); ++k) {
      if (!leaves_[k].grad().defined()) continue;
      const Tensor values = leaves_[k].grad().to(torch::kDouble).contiguous();
      std::copy_n(values.template data_ptr<double>(), values.numel(),
                  g.begin() + static_cast<std::ptrdiff_t>(places_[k]));
    }
    return g;
  }

 private:
  // What a step leaves for the rule: the input of each layer and its output before activation, all
  // [batch, 1, size].
  struct Step {
    std::array<Tensor, 4> in, pre, activity;
    Tensor o, h, tanh_c, c_before;
  };

  bool plastic() const { return case_.rule != Rule::none; }

  // x (W + w) + b + beta.
  Tensor layer(std::size_t l, const Tensor& x) const {
    const Slow& slow = slow_[l];
    const Fast& fast = fast_[l];
    if (!fast.weight.defined()) return torch::matmul(x, slow.weight) + slow.bias;
    if constexpr (ClosedForm) {
      return torch::baddbmm(slow.bias + fast.bias, x, effective(l));
    } else {
      return torch::bmm(x, slow.weight + fast.weight) + slow.bias + fast.bias;
    }
  }

  // W + w of this step, made once.
  const Tensor& effective(std::size_t l) const {
    if (!effective_[l].defined()) effective_[l] = slow_[l].weight + fast_[l].weight;
    return effective_[l];
  }

  // (W + w) d.
  Tensor transposed(std::size_t l, const Tensor& d) const {
    if (!fast_[l].weight.defined()) return torch::matmul(d, slow_[l].weight.t());
    return torch::bmm(d, effective(l).transpose(1, 2));
  }

  Tensor run(const Tensor& inputs) {
    const std::int64_t batch = inputs.size(1);
    Tensor h = torch::zeros({batch, 1, case_.hidden}), c = h;
    fast_ = {};
    std::vector<Tensor> predictions;
    const std::int64_t steps = inputs.size(0);
    for (std::int64_t t = 0; t < steps; ++t) {
      effective_ = {};
      const bool update = plastic() && t + 1 < steps;
      if constexpr (ClosedForm) {
        const Step step = advance(inputs[t].unsqueeze(1), h, c);
        if (update) change(step, case_.rule == Rule::gradient ? closed_form(step) : step.activity);
        predictions.push_back(step.o.squeeze(1).slice(1, 0, Case::outputs));
      } else {
        // The inner gradient needs a graph even where the outer one does not.
        const bool outer = torch::GradMode::is_enabled();
        torch::AutoGradMode inner(outer || (update && case_.rule == Rule::gradient));
        const Step step = advance(inputs[t].unsqueeze(1), h, c);
        if (update) {
          change(step, case_.rule == Rule::gradient ? by_autograd(step, outer) : step.activity);
        }
        predictions.push_back(step.o.squeeze(1).slice(1, 0, Case::outputs));
        if (!outer) {
          h = h.detach();
          c = c.detach();
          predictions.back() = predictions.back().detach();
          for (Fast& fast : fast_) {
            if (fast.weight.defined()) fast = {fast.weight.detach(), fast.bias.detach()};
          }
        }
      }
    }
    return torch::stack(predictions);
  }

  Step advance(const Tensor& x, Tensor& h, Tensor& c) const {
    Step step;
    step.in = {x, h, Tensor(), Tensor()};
    step.c_before = c;
    step.pre[in_fc] = layer(in_fc, x);
    const Tensor e = torch::relu(step.pre[in_fc]);
    step.in[i_fc] = e;
    step.pre[h_fc] = layer(h_fc, h);
    step.pre[i_fc] = layer(i_fc, e);
    const Tensor z = step.pre[h_fc] + step.pre[i_fc];
    Tensor activity;
    if (case_.lstm) {
      const std::vector<Tensor> gates = z.chunk(4, 2);
      const Tensor i = torch::sigmoid(gates[0]), f = torch::sigmoid(gates[1]);
      const Tensor g = torch::tanh(gates[2]), o = torch::sigmoid(gates[3]);
      c = f * c + i * g;
      step.tanh_c = torch::tanh(c);
      h = o * step.tanh_c;
      if (plastic()) activity = torch::cat({i, f, g, o}, 2);
    } else {
      activity = h = torch::relu(z);
    }
    step.h = step.in[out_fc] = h;
    step.pre[out_fc] = step.o = layer(out_fc, h);
    step.activity = {e, activity, activity, step.o};
    return step;
  }

  Tensor inner_loss(const Step& step) const {
    // Summed over the samples: each has a loss of its own.
    const double scale = settings_.inner_scale / static_cast<double>(settings_.all_outputs());
    return (step.o * out_scale_).square().sum() * scale;
  }

  std::array<Tensor, 4> by_autograd(const Step& step, bool outer) const {
    const std::vector<Tensor> at = {step.pre[in_fc], step.pre[h_fc], step.pre[i_fc],
                                    step.pre[out_fc]};
    const std::vector<Tensor> q = torch::autograd::grad({inner_loss(step)}, at, {}, true, outer);
    return {q[0], q[1], q[2], q[3]};
  }

  std::array<Tensor, 4> closed_form(const Step& step) const {
    const double scale = 2 * settings_.inner_scale / static_cast<double>(settings_.all_outputs());
    const Tensor d_o = step.o * (out_scale_.square() * scale);
    const Tensor u_h = transposed(out_fc, d_o);
    Tensor d_z;
    if (case_.lstm) {
      const std::vector<Tensor> gates = step.activity[h_fc].chunk(4, 2);
      const Tensor &i = gates[0], &f = gates[1], &g = gates[2], &o = gates[3];
      const Tensor dc = u_h * o * (1 - step.tanh_c.square());
      d_z = torch::cat({dc * g * i * (1 - i), dc * step.c_before * f * (1 - f),
                        dc * i * (1 - g.square()), u_h * step.tanh_c * o * (1 - o)},
                       2);
    } else {
      d_z = torch::where(step.h > 0, u_h, 0.f);
    }
    const Tensor d_e = torch::where(step.in[i_fc] > 0, transposed(i_fc, d_z), 0.f);
    return {d_e, d_z, d_z, d_o};
  }

  void change(const Step& step, const std::array<Tensor, 4>& q) {
    const bool with_bias = case_.rule == Rule::gradient;
    const Tensor m = 2 * torch::sigmoid(step.o.slice(2, -1));
    Tensor square;
    for (std::size_t l = 0; l < 4; ++l) {
      Tensor term;
      if constexpr (ClosedForm) {
        term =
            (step.in[l].square().sum(2, true) + (with_bias ? 1 : 0)) * q[l].square().sum(2, true);
      } else {
        const Tensor proposal = torch::bmm(step.in[l].transpose(1, 2), q[l]);
        term = proposal.square().sum({1, 2}, true);
        if (with_bias) term = term + q[l].square().sum({1, 2}, true);
      }
      square = square.defined() ? square + term : term;
    }
    const Tensor norm = square.sqrt();
    const Tensor rate =
        settings_.eta0 * m * (settings_.max_norm / torch::clamp_min(norm, settings_.max_norm));
    const Tensor keep = 1 - settings_.decay0 * m;
    for (std::size_t l = 0; l < 4; ++l) {
      Fast& fast = fast_[l];
      const Slow& slow = slow_[l];
      if constexpr (ClosedForm) {
        const Tensor pre = (rate * step.in[l]).transpose(1, 2);
        const Tensor bias_change = rate * q[l];
        if (fast.weight.defined() && !torch::GradMode::is_enabled()) {
          fast.weight.mul_(keep).addcmul_(slow.alpha * pre, q[l]);
        } else if (fast.weight.defined()) {
          fast.weight = torch::addcmul(keep * fast.weight, slow.alpha * pre, q[l]);
        } else {
          fast.weight = slow.alpha * pre * q[l];
          fast.bias = torch::zeros_like(bias_change);
        }
        if (with_bias) fast.bias = torch::addcmul(keep * fast.bias, slow.bias_alpha, bias_change);
      } else {
        if (!fast.weight.defined()) {
          fast.weight = torch::zeros({step.o.size(0), slow.weight.size(0), slow.weight.size(1)});
          fast.bias = torch::zeros_like(q[l]);
        }
        const Tensor proposal = torch::bmm(step.in[l].transpose(1, 2), q[l]);
        fast.weight = keep * fast.weight + rate * slow.alpha * proposal;
        fast.bias = keep * fast.bias;
        if (with_bias) fast.bias = fast.bias + rate * slow.bias_alpha * q[l];
      }
    }
  }

  Case case_;
  naive::Settings settings_;
  naive::Layout layout_;
  std::array<Slow, 4> slow_;
  std::array<Fast, 4> fast_;
  mutable std::array<Tensor, 4> effective_;
  Tensor out_scale_;
  std::vector<Tensor> leaves_;
  std::vector<std::size_t> places_;
  std::unique_ptr<torch::optim::AdamW> optimizer_;
};

// Data as the networks here want it: time first.
std::pair<Tensor, Tensor> tensors(const Case& c) {
  Data data(c);
  const auto make = [&](std::vector<float>& from, std::int64_t size) {
    // Copies even if the order is right already, as for a batch of 1, because `data` ends with this
    // function.
    return torch::from_blob(from.data(), {c.batch, c.steps, size})
        .transpose(0, 1)
        .clone(at::MemoryFormat::Contiguous);
  };
  return {make(data.inputs, Case::inputs), make(data.targets, Case::outputs)};
}

template <bool ClosedForm>
std::string verify(const Case& full, bool backward) {
  Case c = verified_size(full);
  // Every step is the same code, and in single precision a unit that rounds to the other side of
  // its kink changes all that follows.
  c.steps = std::min(c.steps, 20);
  torch::set_num_threads(c.threads);
  Network<ClosedForm> network(c);
  const Data data(c);
  const auto [inputs, targets] = tensors(c);
  const naive::Result expected =
      naive::Network(network.settings(), network.parameters())
          .run(data.inputs, data.targets, static_cast<std::size_t>(c.batch),
               static_cast<std::size_t>(c.steps));
  naive::Result got = expected;
  torch::AutoGradMode mode(backward);
  const Tensor loss = network.loss(inputs, targets);
  got.loss = loss.template item<double>();
  if (backward) {
    loss.backward();
    got.gradient = network.gradient();
  }
  return compare(network.layout(), c.rule != Rule::none, got, expected, tolerance);
}

template <bool ClosedForm>
void add(const Case& c, bool backward) {
  const std::string kind = std::string("libtorch/") + (ClosedForm ? "closed_form" : "autograd") +
                           (backward ? "/train_step" : "/forward");
  register_benchmark(kind, c, backward, benchmark::kMillisecond,
                     {.verify = [=] { return verify<ClosedForm>(c, backward); },
                      .prepare = [=]() -> std::function<void()> {
                        torch::set_num_threads(c.threads);
                        auto network = std::make_shared<Network<ClosedForm>>(c);
                        const auto [inputs, targets] = tensors(c);
                        if (backward) {
                          return [network, x = inputs, y = targets] { network->train_step(x, y); };
                        }
                        return [network, x = inputs, y = targets] {
                          torch::NoGradGuard guard;
                          benchmark::DoNotOptimize(network->loss(x, y).template item<float>());
                        };
                      }});
}

struct Convolving {
  explicit Convolving(const ConvCase& c) : convolution(c), data(c) {
    torch::set_num_threads(c.threads);
    x = torch::from_blob(data.x.data(), {c.batch, c.channels, c.size, c.size}).requires_grad_();
    weight = torch::from_blob(data.weight.data(), {c.filters, c.channels, 3, 3}).requires_grad_();
    dy = torch::from_blob(data.dy.data(), {c.batch, c.filters, c.size, c.size});
  }

  void forward() { y = torch::conv2d(x, weight, {}, 1, 1); }
  void backward() {
    gradients = torch::autograd::grad({y}, {x, weight}, {dy}, /*retain_graph=*/true);
  }

  ConvCase convolution;
  ConvData data;
  Tensor x, weight, dy, y;
  std::vector<Tensor> gradients;
};

std::string verify_convolution(const ConvCase& full) {
  const ConvCase c = verified_size(full);
  Convolving convolving(c);
  convolving.forward();
  convolving.backward();
  const auto values = [](const Tensor& t) {
    const Tensor whole = t.detach().contiguous();
    return std::vector<float>(whole.data_ptr<float>(), whole.data_ptr<float>() + whole.numel());
  };
  return compare(
      c, convolving.data,
      {values(convolving.y), values(convolving.gradients[0]), values(convolving.gradients[1])});
}

void add_convolutions(int all_threads) {
  for (const ConvCase& c : conv_cases(all_threads)) {
    for (const bool backward : {false, true}) {
      register_benchmark(c.name(backward ? "libtorch/conv2d/backward" : "libtorch/conv2d/forward"),
                         c.work(backward), c.batch, benchmark::kMillisecond,
                         {.verify = [=] { return verify_convolution(c); },
                          .prepare = [=]() -> std::function<void()> {
                            auto convolving = std::make_shared<Convolving>(c);
                            convolving->forward();
                            if (backward) return [convolving] { convolving->backward(); };
                            return [convolving] { convolving->forward(); };
                          }});
    }
  }
}

void add_all(bool sweep) {
  const int threads = omp_get_num_procs();  // libtorch itself would take half of them
  for (const bool lstm : {false, true}) {
    for (const Rule rule : {Rule::gradient, Rule::hebbian, Rule::none}) {
      for (const bool backward : {true, false}) {
        for (const Case& c : cases(lstm, rule, sweep, threads)) {
          add<true>(c, backward);
          if (rule != Rule::none) add<false>(c, backward);
        }
      }
    }
  }
  add_convolutions(threads);
}

}  // namespace

int main(int argc, char** argv) {
#ifdef __GLIBC__
  // Otherwise every large tensor would be mapped and cleared anew, which takes a fifth of the time.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
#endif
  return run_main(argc, argv, add_all);
}
