#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "model.hpp"

/// The model and its gradient in double, one sample and one number at a time, straight from the
/// equations: what the benchmarks are verified against before they are timed.
namespace bench::naive {

using Numbers = std::vector<double>;

struct Settings {
  bool lstm = false;
  Rule rule = Rule::gradient;
  std::size_t inputs = Case::inputs;
  std::size_t hidden = 128;
  std::size_t outputs = Case::outputs;
  std::size_t extra = Case::extra;
  bool modulation = true;
  double eta0 = 0.1;
  double decay0 = 0.1;
  double max_norm = 1;
  double inner_scale = 1.0 / 64;
  bool piecewise_gates = false;  ///< gates clamp(1/2 + x/4, 0, 1) and clamp(x, -1, 1): no exp

  std::size_t all_outputs() const { return outputs + extra + (modulation ? 1 : 0); }
  std::vector<LayerSize> layers() const { return layer_sizes(lstm, inputs, hidden, all_outputs()); }
};

/// Where a layer's parameters lie in the flat vector; matrices are [inputs][outputs].
struct Layer {
  std::size_t inputs, outputs, weight, bias, alpha, bias_alpha;
};

/// Parameters, and gradients, are one vector: of each layer weight, bias and, for a plastic rule,
/// their two alphas, then the out_scale.
struct Layout {
  std::vector<Layer> layers;
  std::size_t out_scale = 0;
  std::size_t size = 0;

  explicit Layout(const Settings& s) {
    const auto place = [&](std::size_t count) {
      size += count;
      return size - count;
    };
    for (const LayerSize& layer : s.layers()) {
      Layer l{layer.inputs, layer.outputs, 0, 0, 0, 0};
      l.weight = place(layer.weights());
      l.bias = place(layer.outputs);
      if (s.rule != Rule::none) {
        l.alpha = place(layer.weights());
        l.bias_alpha = place(layer.outputs);
      }
      layers.push_back(l);
    }
    out_scale = place(s.all_outputs());
  }
};

/// Loss, mean over samples, steps and outputs, of (prediction - target)^2, and its derivatives.
struct Result {
  double loss = 0;
  Numbers gradient;
  Numbers output;    ///< [batch][steps][outputs]
  double rate = 0;   ///< derivative by the clipped learning rate, summed over samples and steps
  double decay = 0;  ///< likewise by 1 - lambda
};

class Network {
 public:
  Network(const Settings& settings, const Numbers& parameters)
      : s_(settings), layout_(settings), parameters_(parameters) {}

  /// inputs [batch][steps][inputs], targets [batch][steps][outputs].
  Result run(const std::vector<float>& inputs, const std::vector<float>& targets, std::size_t batch,
             std::size_t steps, bool backward = true) {
    Result result;
    result.gradient.assign(layout_.size, 0.0);
    result.output.resize(batch * steps * s_.outputs);
    const double scale = 1.0 / static_cast<double>(batch * steps * s_.outputs);
    for (std::size_t b = 0; b < batch; ++b) {
      const float* x = inputs.data() + b * steps * s_.inputs;
      const float* target = targets.data() + b * steps * s_.outputs;
      forward(x, steps);
      std::vector<Numbers> errors(steps, Numbers(s_.outputs));
      for (std::size_t t = 0; t < steps; ++t) {
        for (std::size_t k = 0; k < s_.outputs; ++k) {
          const std::size_t at = t * s_.outputs + k;
          result.output[b * steps * s_.outputs + at] = steps_[t].o[k];
          errors[t][k] = steps_[t].o[k] - static_cast<double>(target[at]);
          result.loss += scale * errors[t][k] * errors[t][k];
          errors[t][k] *= 2 * scale;
        }
      }
      if (backward) this->backward(errors, result);
    }
    return result;
  }

 private:
  static constexpr std::size_t in_fc = 0, h_fc = 1, i_fc = 2, out_fc = 3;

  struct Step {
    std::vector<Numbers> w, beta;       // one per layer, as the step finds them
    std::vector<Numbers> in, out;       // p and q of each layer
    Numbers e, gates, h, c, tanh_c, o;  // gates: the RNN's are h
    Numbers u_h;                        // (W_o + w_o) do
    double eta = 0, rate = 0, rho = 1, norm = 0, m = 1;
  };

  double sigmoid(double x) const {
    return s_.piecewise_gates ? std::clamp(0.5 + x / 4, 0.0, 1.0) : 1 / (1 + std::exp(-x));
  }
  double tanh(double x) const {
    return s_.piecewise_gates ? std::clamp(x, -1.0, 1.0) : std::tanh(x);
  }
  // The derivatives by the value y, and the derivatives of those by y.
  double d_sigmoid(double y) const {
    return s_.piecewise_gates ? (y > 0 && y < 1 ? 0.25 : 0) : y * (1 - y);
  }
  double d_tanh(double y) const {
    return s_.piecewise_gates ? (y > -1 && y < 1 ? 1 : 0) : 1 - y * y;
  }
  double d2_sigmoid(double y) const { return s_.piecewise_gates ? 0 : 1 - 2 * y; }
  double d2_tanh(double y) const { return s_.piecewise_gates ? 0 : -2 * y; }

  bool plastic() const { return s_.rule != Rule::none; }

  double weight(const Step& step, std::size_t l, std::size_t i, std::size_t j) const {
    const Layer& layer = layout_.layers[l];
    const std::size_t at = i * layer.outputs + j;
    return parameters_[layer.weight + at] + step.w[l][at];
  }

  void add_layer(const Step& step, std::size_t l, const Numbers& x, Numbers& y) const {
    const Layer& layer = layout_.layers[l];
    for (std::size_t j = 0; j < layer.outputs; ++j) {
      y[j] += parameters_[layer.bias + j] + step.beta[l][j];
    }
    add_product(step, l, x, y);
  }
  void add_product(const Step& step, std::size_t l, const Numbers& x, Numbers& y) const {
    const Layer& layer = layout_.layers[l];
    for (std::size_t i = 0; i < layer.inputs; ++i) {
      for (std::size_t j = 0; j < layer.outputs; ++j) y[j] += x[i] * weight(step, l, i, j);
    }
  }
  void add_transposed(const Step& step, std::size_t l, const Numbers& d, Numbers& u) const {
    const Layer& layer = layout_.layers[l];
    for (std::size_t i = 0; i < layer.inputs; ++i) {
      for (std::size_t j = 0; j < layer.outputs; ++j) u[i] += weight(step, l, i, j) * d[j];
    }
  }

  static double square(const Numbers& x) {
    double sum = 0;
    for (const double value : x) sum += value * value;
    return sum;
  }

  double inner_factor() const { return 2 * s_.inner_scale / static_cast<double>(s_.all_outputs()); }

  void forward(const float* inputs, std::size_t steps) {
    const std::size_t n = s_.hidden, O = s_.all_outputs();
    steps_.assign(steps, Step());
    Numbers h(n, 0.0), c(n, 0.0);
    std::vector<Numbers> w, beta;
    for (const Layer& layer : layout_.layers) {
      w.emplace_back(layer.inputs * layer.outputs, 0.0);
      beta.emplace_back(layer.outputs, 0.0);
    }
    for (std::size_t t = 0; t < steps; ++t) {
      Step& now = steps_[t];
      now.w = w;
      now.beta = beta;
      const Numbers x(inputs + t * s_.inputs, inputs + (t + 1) * s_.inputs);
      now.e.assign(n, 0.0);
      add_layer(now, in_fc, x, now.e);
      for (double& value : now.e) value = std::max(value, 0.0);
      now.in = {x, h, now.e, {}};
      now.gates.assign(layout_.layers[h_fc].outputs, 0.0);
      add_layer(now, h_fc, h, now.gates);
      add_layer(now, i_fc, now.e, now.gates);
      if (s_.lstm) {
        now.tanh_c.resize(n);
        for (std::size_t k = 0; k < 4 * n; ++k) {
          now.gates[k] = k / n == 2 ? tanh(now.gates[k]) : sigmoid(now.gates[k]);
        }
        for (std::size_t k = 0; k < n; ++k) {
          c[k] = now.gates[n + k] * c[k] + now.gates[k] * now.gates[2 * n + k];
          now.tanh_c[k] = tanh(c[k]);
          h[k] = now.gates[3 * n + k] * now.tanh_c[k];
        }
        now.c = c;
      } else {
        for (double& value : now.gates) value = std::max(value, 0.0);
        h = now.gates;
      }
      now.h = h;
      now.in[out_fc] = h;
      now.o.assign(O, 0.0);
      add_layer(now, out_fc, h, now.o);
      if (s_.modulation) now.m = 2 / (1 + std::exp(-now.o.back()));
      now.eta = s_.eta0 * now.m;
      now.rho = 1 - s_.decay0 * now.m;
      if (!plastic()) continue;
      propose(t);
      const double bias_pre = s_.rule == Rule::gradient ? 1 : 0;
      double sum = 0;
      for (std::size_t l = 0; l < 4; ++l)
        sum += (square(now.in[l]) + bias_pre) * square(now.out[l]);
      now.norm = std::sqrt(sum);
      now.rate = now.eta * s_.max_norm / std::max(now.norm, s_.max_norm);
      for (std::size_t l = 0; l < 4; ++l) {
        const Layer& layer = layout_.layers[l];
        for (std::size_t j = 0; j < layer.outputs; ++j) {
          const double q = now.out[l][j];
          beta[l][j] =
              now.rho * beta[l][j] + now.rate * parameters_[layer.bias_alpha + j] * bias_pre * q;
          for (std::size_t i = 0; i < layer.inputs; ++i) {
            const std::size_t at = i * layer.outputs + j;
            w[l][at] =
                now.rho * w[l][at] + now.rate * parameters_[layer.alpha + at] * now.in[l][i] * q;
          }
        }
      }
    }
  }

  /// The cell state before step t, and the adjoint of c' where the inner loss has adjoint u_h at
  /// h'.
  double c_before(std::size_t t, std::size_t k) const { return t == 0 ? 0 : steps_[t - 1].c[k]; }

  void propose(std::size_t t) {
    Step& now = steps_[t];
    const std::size_t n = s_.hidden;
    if (s_.rule == Rule::hebbian) {
      now.out = {now.e, now.gates, now.gates, now.o};
      return;
    }
    Numbers d_o(now.o.size());
    for (std::size_t k = 0; k < d_o.size(); ++k) {
      const double v = parameters_[layout_.out_scale + k];
      d_o[k] = inner_factor() * v * v * now.o[k];
    }
    now.u_h.assign(n, 0.0);
    add_transposed(now, out_fc, d_o, now.u_h);
    Numbers dz(now.gates.size());
    for (std::size_t k = 0; k < n; ++k) {
      if (!s_.lstm) {
        dz[k] = now.gates[k] > 0 ? now.u_h[k] : 0;
        continue;
      }
      const double i = now.gates[k], f = now.gates[n + k], g = now.gates[2 * n + k],
                   o = now.gates[3 * n + k];
      const double dc = now.u_h[k] * o * d_tanh(now.tanh_c[k]);
      dz[k] = dc * g * d_sigmoid(i);
      dz[n + k] = dc * c_before(t, k) * d_sigmoid(f);
      dz[2 * n + k] = dc * i * d_tanh(g);
      dz[3 * n + k] = now.u_h[k] * now.tanh_c[k] * d_sigmoid(o);
    }
    Numbers de(n, 0.0);
    add_transposed(now, i_fc, dz, de);
    for (std::size_t k = 0; k < n; ++k) de[k] = now.e[k] > 0 ? de[k] : 0;
    now.out = {de, dz, dz, d_o};
  }

  void backward(const std::vector<Numbers>& errors, Result& result) {
    const std::size_t n = s_.hidden, O = s_.all_outputs();
    const double bias_pre = s_.rule == Rule::gradient ? 1 : 0;
    Numbers& grad = result.gradient;
    std::vector<Numbers> G, g_beta;
    for (const Layer& layer : layout_.layers) {
      G.emplace_back(layer.inputs * layer.outputs, 0.0);
      g_beta.emplace_back(layer.outputs, 0.0);
    }
    Numbers h_next(n, 0.0), c_next(n, 0.0);  // adjoints of h' and c'
    for (std::size_t t = steps_.size(); t-- > 0;) {
      const Step& now = steps_[t];
      std::vector<Numbers> pre_(4), post_(4);
      for (std::size_t l = 0; l < 4; ++l) {
        pre_[l].assign(layout_.layers[l].inputs, 0.0);
        post_[l].assign(layout_.layers[l].outputs, 0.0);
      }
      double rate_ = 0, rho_ = 0, last_ = 0;
      if (plastic()) {
        for (std::size_t l = 0; l < 4; ++l) {
          const Layer& layer = layout_.layers[l];
          for (std::size_t j = 0; j < layer.outputs; ++j) {
            const double q = now.out[l][j], a = parameters_[layer.bias_alpha + j];
            const double gb = g_beta[l][j];
            post_[l][j] += now.rate * bias_pre * a * gb;
            rate_ += bias_pre * a * q * gb;
            rho_ += now.beta[l][j] * gb;
            grad[layer.bias_alpha + j] += now.rate * bias_pre * q * gb;
            for (std::size_t i = 0; i < layer.inputs; ++i) {
              const std::size_t at = i * layer.outputs + j;
              const double p = now.in[l][i], A = parameters_[layer.alpha + at];
              pre_[l][i] += now.rate * A * G[l][at] * q;
              post_[l][j] += now.rate * A * G[l][at] * p;
              rate_ += p * A * G[l][at] * q;
              rho_ += now.w[l][at] * G[l][at];
              grad[layer.alpha + at] += now.rate * p * q * G[l][at];
            }
          }
        }
        result.rate += rate_;
        result.decay += rho_;
        double eta_ = rate_;
        if (now.norm > s_.max_norm) {
          eta_ = rate_ * s_.max_norm / now.norm;
          const double k = -rate_ * now.eta * s_.max_norm / std::pow(now.norm, 3);
          for (std::size_t l = 0; l < 4; ++l) {
            const double p2 = square(now.in[l]) + bias_pre, q2 = square(now.out[l]);
            for (std::size_t i = 0; i < pre_[l].size(); ++i) pre_[l][i] += k * q2 * now.in[l][i];
            for (std::size_t j = 0; j < post_[l].size(); ++j) post_[l][j] += k * p2 * now.out[l][j];
          }
        }
        const double m_ = s_.eta0 * eta_ - s_.decay0 * rho_;
        if (s_.modulation) last_ = m_ * now.m * (1 - now.m / 2);
      }

      Numbers o_(O, 0.0), h_(h_next), e_(n, 0.0), gates_(now.gates.size(), 0.0), c_(c_next),
          tanh_c_(n, 0.0), c_before_(n, 0.0), u_e_(n, 0.0), u_h_(n, 0.0);
      if (s_.modulation) o_.back() += last_;
      if (s_.rule == Rule::hebbian) {
        for (std::size_t k = 0; k < n; ++k) e_[k] += post_[in_fc][k];
        for (std::size_t k = 0; k < gates_.size(); ++k)
          gates_[k] += post_[h_fc][k] + post_[i_fc][k];
        for (std::size_t k = 0; k < O; ++k) o_[k] += post_[out_fc][k];
      } else if (s_.rule == Rule::gradient) {
        for (std::size_t k = 0; k < n; ++k) u_e_[k] = now.e[k] > 0 ? post_[in_fc][k] : 0;
        Numbers dz_(gates_.size());
        for (std::size_t k = 0; k < dz_.size(); ++k) dz_[k] = post_[h_fc][k] + post_[i_fc][k];
        add_product(now, i_fc, u_e_, dz_);
        for (std::size_t k = 0; k < n; ++k) {
          if (!s_.lstm) {
            u_h_[k] = now.gates[k] > 0 ? dz_[k] : 0;
            continue;
          }
          const double i = now.gates[k], f = now.gates[n + k], g = now.gates[2 * n + k],
                       o = now.gates[3 * n + k], tc = now.tanh_c[k], u = now.u_h[k],
                       cb = c_before(t, k), dc = u * o * d_tanh(tc);
          const double Zi = dz_[k], Zf = dz_[n + k], Zg = dz_[2 * n + k], Zo = dz_[3 * n + k];
          const double dc_ = Zi * g * d_sigmoid(i) + Zf * cb * d_sigmoid(f) + Zg * i * d_tanh(g);
          u_h_[k] = Zo * tc * d_sigmoid(o) + dc_ * o * d_tanh(tc);
          gates_[k] += Zi * dc * g * d2_sigmoid(i) + Zg * dc * d_tanh(g);
          gates_[n + k] += Zf * dc * cb * d2_sigmoid(f);
          gates_[2 * n + k] += Zi * dc * d_sigmoid(i) + Zg * dc * i * d2_tanh(g);
          gates_[3 * n + k] += Zo * u * tc * d2_sigmoid(o) + dc_ * u * d_tanh(tc);
          tanh_c_[k] += Zo * u * d_sigmoid(o) + dc_ * u * o * d2_tanh(tc);
          c_before_[k] += Zf * dc * d_sigmoid(f);
        }
        Numbers d_o_(post_[out_fc]);
        add_product(now, out_fc, u_h_, d_o_);
        for (std::size_t k = 0; k < O; ++k) {
          const double v = parameters_[layout_.out_scale + k];
          o_[k] += inner_factor() * v * v * d_o_[k];
          grad[layout_.out_scale + k] += 2 * inner_factor() * v * now.o[k] * d_o_[k];
        }
      }
      for (std::size_t k = 0; k < s_.outputs; ++k) o_[k] += errors[t][k];

      for (std::size_t k = 0; k < n; ++k) h_[k] += pre_[out_fc][k];
      add_transposed(now, out_fc, o_, h_);
      Numbers z_(gates_.size());
      for (std::size_t k = 0; k < n; ++k) {
        if (!s_.lstm) {
          z_[k] = now.gates[k] > 0 ? gates_[k] + h_[k] : 0;
          continue;
        }
        const double i = now.gates[k], f = now.gates[n + k], g = now.gates[2 * n + k],
                     o = now.gates[3 * n + k], tc = now.tanh_c[k];
        gates_[3 * n + k] += h_[k] * tc;
        c_[k] += (tanh_c_[k] + h_[k] * o) * d_tanh(tc);
        z_[k] = (gates_[k] + c_[k] * g) * d_sigmoid(i);
        z_[n + k] = (gates_[n + k] + c_[k] * c_before(t, k)) * d_sigmoid(f);
        z_[2 * n + k] = (gates_[2 * n + k] + c_[k] * i) * d_tanh(g);
        z_[3 * n + k] = gates_[3 * n + k] * d_sigmoid(o);
        c_before_[k] += c_[k] * f;
      }
      for (std::size_t k = 0; k < n; ++k) e_[k] += pre_[i_fc][k];
      add_transposed(now, i_fc, z_, e_);
      h_next = pre_[h_fc];
      add_transposed(now, h_fc, z_, h_next);
      c_next = c_before_;
      Numbers z_in_(n);
      for (std::size_t k = 0; k < n; ++k) z_in_[k] = now.e[k] > 0 ? e_[k] : 0;

      const Numbers* adjoints[] = {&z_in_, &z_, &z_, &o_};
      for (std::size_t l = 0; l < 4; ++l) {
        const Layer& layer = layout_.layers[l];
        for (std::size_t j = 0; j < layer.outputs; ++j) {
          const double dy = (*adjoints[l])[j];
          grad[layer.bias + j] += dy;
          g_beta[l][j] = now.rho * g_beta[l][j] + dy;
          for (std::size_t i = 0; i < layer.inputs; ++i) {
            double uses = now.in[l][i] * dy;
            if (s_.rule == Rule::gradient && l == i_fc) uses += u_e_[i] * now.out[l][j];
            if (s_.rule == Rule::gradient && l == out_fc) uses += u_h_[i] * now.out[l][j];
            const std::size_t at = i * layer.outputs + j;
            grad[layer.weight + at] += uses;
            G[l][at] = now.rho * G[l][at] + uses;
          }
        }
      }
    }
  }

  Settings s_;
  Layout layout_;
  Numbers parameters_;
  std::vector<Step> steps_;
};

}  // namespace bench::naive
