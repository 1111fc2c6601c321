#include "limit.hpp"

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <plastic/kernels/nonzero_rows.hpp>
#include <stdexcept>
#include <vector>

#include "vectors.hpp"

#ifdef __SSE__
#include <xmmintrin.h>
#endif

// One sample at a time goes through its whole episode on one thread, so that its weights stay in
// the second-level cache. The weights are w = s v; the decay goes into s, so that a forward step is
// one pass per layer: read v, A, W, write v. A backward step is one pass: read v, A, W, G, dA,
// write v, G, dA, with all products of the adjoint. The gradient rule reads W + s v of i_fc and
// out_fc once more in each direction. Rows whose input is 0 behind a relu, now and at the update,
// are left out.
//
// What was measured of the passes is in docs/performance.md.

namespace bench {
namespace {

namespace kernels = plastic::detail::kernels;

// A layer's matrix: panels of `width` columns, each contiguous, row by row. out_fc has few outputs,
// so it is kept transposed, with its outputs as rows: `across`.
struct Matrix {
  std::size_t rows, cols, offset;
  bool across;
};

// The rows that a pass takes.
struct Rows {
  const std::int32_t* at;
  std::size_t count;
  const std::int32_t* begin() const { return at; }
  const std::int32_t* end() const { return at + count; }
};

// Passes over one matrix in column panels of N vectors whose sums stay in registers. Every other
// update goes through the panels from the last to the first (`backwards`): if the second-level
// cache cannot hold a matrix, the pass finds there what the pass before it has left.
template <int N>
struct Passes {
  static constexpr std::size_t width = N * lanes;

  // y += x (W + s v), down the rows; returns d (x v) where d is given.
  static float read_down(const Matrix& m, Rows rows, const float* W, const float* v, float scale,
                         const float* x, float* y, const float* d = nullptr) {
    const Vec s = splat(scale);
    Vec of_scale{};
    for (std::size_t c = 0; c < m.cols; c += width) {
      const std::size_t panel = m.offset + c * m.rows;
      Vec slow[N] = {}, fast[N] = {};
      for (const std::int32_t row : rows) {
        const auto i = static_cast<std::size_t>(row);
        const Vec xi = splat(x[i]);
        for (std::size_t k = 0; k < N; ++k) {
          const std::size_t at = panel + i * width + k * lanes;
          slow[k] += xi * load(W + at);
          fast[k] += xi * load(v + at);
        }
      }
      for (std::size_t k = 0; k < N; ++k) {
        add_to(y + c + k * lanes, slow[k] + s * fast[k]);
        if (d != nullptr) of_scale += load(d + c + k * lanes) * fast[k];
      }
    }
    return sum(of_scale);
  }

  // u += (W + s v) d, across the columns; returns (v d) x where x is given.
  static float read_across(const Matrix& m, Rows rows, const float* W, const float* v, float scale,
                           const float* d, float* u, const float* x = nullptr) {
    const Vec s = splat(scale);
    Vec of_scale{};
    for (std::size_t c = 0; c < m.cols; c += width) {
      const std::size_t panel = m.offset + c * m.rows;
      for (const std::int32_t row : rows) {
        const auto i = static_cast<std::size_t>(row);
        Vec slow{}, fast{};
        for (std::size_t k = 0; k < N; ++k) {
          const std::size_t at = panel + i * width + k * lanes;
          const Vec dk = load(d + c + k * lanes);
          slow += dk * load(W + at);
          fast += dk * load(v + at);
        }
        u[i] += sum(slow + s * fast);
        if (x != nullptr) of_scale += splat(x[i]) * fast;
      }
    }
    return sum(of_scale);
  }

  // to = keep from + A (rate f g^T), y += x (W + scale to): down the rows, or across the columns.
  template <bool Across, bool Lazy>
  static void update(const Matrix& m, Rows rows, const float* A, const float* W, const float* from,
                     float* to, bool backwards, float rate, float keep, float scale, const float* f,
                     const float* g, const float* x, float* y) {
    const Vec s = splat(scale), kept = splat(keep);
    for (std::size_t done = 0; done < m.cols; done += width) {
      const std::size_t c = backwards ? m.cols - width - done : done;
      const std::size_t panel = m.offset + c * m.rows;
      Vec total[N] = {};
      for (const std::int32_t row : rows) {
        const auto i = static_cast<std::size_t>(row);
        const Vec fi = splat(rate * f[i]);
        const Vec xi = splat(Across ? 0 : x[i]);
        Vec row_sum{};
        for (std::size_t k = 0; k < N; ++k) {
          const std::size_t at = panel + i * width + k * lanes, column = c + k * lanes;
          Vec v = load(from + at);
          if constexpr (!Lazy) v *= kept;
          v += fi * load(g + column) * load(A + at);
          store(to + at, v);
          const Vec weight = load(W + at) + s * v;
          if constexpr (Across) {
            row_sum += load(x + column) * weight;
          } else {
            total[k] += xi * weight;
          }
        }
        if constexpr (Across) y[i] += sum(row_sum);
      }
      if constexpr (!Across) {
        for (std::size_t k = 0; k < N; ++k) add_to(y + c + k * lanes, total[k]);
      }
    }
  }

  struct Adjoint {
    const float *f, *g;    // factors of the update before this step
    const float *a1, *b1;  // uses of this step: G += s a1 b1^T (+ s a2 b2^T)
    const float *a2, *b2;
    float* product;  // += (W + s v) b1, or a1 (W + s v) where Across
    float* df;       // += M g
    float* dg;       // += f M
    double scalar;   // += a1 v b1 where Lazy, else <v before the update, G>
  };

  // The fused backward pass over step and update. Lazy: `v` holds the weights after the update and
  // receives those before it; else `before` holds the latter, and the scale after it is 1.
  template <bool Across, bool Second, bool Lazy>
  static void adjoint(const Matrix& m, Rows rows, const float* A, const float* W, float* v,
                      const float* before, float* G, float* dA, bool backwards, float rate,
                      float keep, float scale, Adjoint& all) {
    const Vec s = splat(scale), kept = splat(keep);
    const Adjoint here = all;
    Vec scalar{};
    for (std::size_t done = 0; done < m.cols; done += width) {
      const std::size_t c = backwards ? m.cols - width - done : done;
      const std::size_t panel = m.offset + c * m.rows;
      Vec dg[N] = {}, down[N] = {};
      for (const std::int32_t row : rows) {
        const auto i = static_cast<std::size_t>(row);
        const Vec f = splat(here.f[i]), rated = splat(rate * here.f[i]);
        const Vec a1 = splat(here.a1[i]), used = splat(scale * here.a1[i]);
        const Vec second = splat(Second ? scale * here.a2[i] : 0);
        Vec slow_sum{}, fast_sum{}, df{};
        for (std::size_t k = 0; k < N; ++k) {
          const std::size_t at = panel + i * width + k * lanes, column = c + k * lanes;
          const Vec g = load(here.g + column), b1 = load(here.b1 + column);
          const Vec a = load(A + at), change = rated * g;
          Vec adj = load(G + at) + used * b1;
          if constexpr (Second) adj += second * load(here.b2 + column);
          Vec after;
          if constexpr (Lazy) {
            after = load(v + at);
            store(v + at, after - change * a);
            store(G + at, adj);
          } else {
            const Vec old = load(before + at);
            after = kept * old + change * a;
            scalar += old * adj;
            store(G + at, kept * adj);
          }
          if constexpr (Across) {
            down[k] += a1 * (load(W + at) + s * after);
          } else {
            slow_sum += b1 * load(W + at);
          }
          fast_sum += b1 * after;
          const Vec M = a * adj;
          df += M * g;
          dg[k] += f * M;
          store(dA + at, load(dA + at) + change * adj);
        }
        if constexpr (!Across) here.product[i] += sum(slow_sum + s * fast_sum);
        if constexpr (Lazy) scalar += a1 * fast_sum;
        here.df[i] += sum(df);
      }
      for (std::size_t k = 0; k < N; ++k) {
        add_to(here.dg + c + k * lanes, dg[k]);
        if constexpr (Across) add_to(here.product + c + k * lanes, down[k]);
      }
    }
    all.scalar += static_cast<double>(sum(scalar));
  }

  // dW += sum over `count` stacked vectors of a b^T, two rows at a time.
  static void outer_products(const Matrix& m, const float* a, const float* b, std::size_t count,
                             float* dW) {
    for (std::size_t c = 0; c < m.cols; c += width) {
      for (std::size_t i = 0; i < m.rows; i += 2) {
        float* at = dW + m.offset + c * m.rows + i * width;
        Vec total[2][N];
        for (std::size_t k = 0; k < std::size_t{2} * N; ++k)
          total[k / N][k % N] = load(at + k * lanes);
        for (std::size_t n = 0; n < count; ++n) {
          const Vec a0 = splat(a[n * m.rows + i]), a1 = splat(a[n * m.rows + i + 1]);
          for (std::size_t k = 0; k < N; ++k) {
            const Vec bn = load(b + n * m.cols + c + k * lanes);
            total[0][k] += a0 * bn;
            total[1][k] += a1 * bn;
          }
        }
        for (std::size_t k = 0; k < std::size_t{2} * N; ++k)
          store(at + k * lanes, total[k / N][k % N]);
      }
    }
  }
};

constexpr float eta = 1e-3f, rho = 0.9f;  // small, as no norm bounds the Hebbian rule
constexpr float least_scale = 0.125f;
constexpr std::size_t in_fc = 0, h_fc = 1, i_fc = 2, out_fc = 3;

float unit(float x) { return x < 0 ? 0.f : x > 1 ? 1.f : x; }
float symmetric(float x) { return x < -1 ? -1.f : x > 1 ? 1.f : x; }
float d_unit(float y) { return y > 0 && y < 1 ? 0.25f : 0.f; }
float d_symmetric(float y) { return y > -1 && y < 1 ? 1.f : 0.f; }

// Workspace of one thread.
template <class P>
struct Lane {
  // `copies`: states that are kept at once.
  Lane(std::size_t weights, std::size_t n, std::size_t gates, std::size_t O, std::size_t steps,
       std::size_t copies, bool train)
      : G(train ? weights : 0),
        dA(train ? weights : 0),
        dW(train ? weights : 0),
        x(steps * Case::inputs),
        e(steps * n),
        h((steps + 1) * n),
        gates_(steps * gates),
        c((steps + 1) * n),
        u_h(steps * n),
        o(steps * O),
        d_e(steps * n),
        d_z(steps * gates),
        d_o(steps * O),
        z_in_adj(steps * n),
        z_adj(steps * gates),
        o_adj(steps * O),
        u_e_adj(steps * n),
        u_h_adj(steps * n) {
    for (std::size_t k = 0; k < copies; ++k) states.emplace_back(weights);
    rows.resize(std::max<std::size_t>(Case::inputs, n) + kernels::nonzero_slack);
    for (std::size_t l = 0; l < 4; ++l) {
      const std::size_t longest = std::max(gates, n);
      df.emplace_back(longest);
      dg.emplace_back(longest);
    }
    h_adj = Buffer(n);
    h_next = Buffer(n);
    e_adj = Buffer(n);
    c_adj = Buffer(n);
    c_before_adj = Buffer(n);
    gates_adj = Buffer(gates);
    do_adj = Buffer(O);
  }

  std::vector<Buffer> states;
  Buffer G, dA, dW;
  // Values of every step, [step][...]; h and c begin with the zeros before the first step.
  Buffer x, e, h, gates_, c, u_h, o, d_e, d_z, d_o, z_in_adj, z_adj, o_adj, u_e_adj, u_h_adj;
  std::vector<Buffer> df, dg;
  Buffer h_adj, h_next, e_adj, c_adj, c_before_adj, gates_adj, do_adj;
  std::vector<std::int32_t> rows;  // rows of the present pass
  double scale_adj[4] = {};        // one per layer
  Walked walked;
  double loss = 0, rate = 0, keep = 0;
};

template <class P>
class Network final : public Limit {
 public:
  Network(const Case& c, const naive::Numbers& parameters)
      : case_(c),
        settings_(limit_settings(c)),
        layout_(settings_),
        n_(static_cast<std::size_t>(c.hidden)),
        gates_(n_ * (c.lstm ? 4 : 1)),
        steps_(static_cast<std::size_t>(c.steps)),
        batch_(static_cast<std::size_t>(c.batch)) {
    for (std::size_t l = 0; l < 4; ++l) {
      const LayerSize size = settings_.layers()[l];
      const bool across = l == out_fc;
      matrices_.push_back({across ? size.outputs : size.inputs, across ? size.inputs : size.outputs,
                           weights_, across});
      weights_ += size.weights();
    }
    // Where the scale has become small, the weights take the decay and move to a new place.
    for (std::size_t t = 0; t < steps_; ++t) {
      const float next = t == 0 ? 1 : rho * scale_[t - 1];
      lazy_.push_back(next >= least_scale);
      scale_.push_back(lazy_[t] ? next : 1);
      copy_.push_back(t == 0 ? 0 : copy_[t - 1] + (lazy_[t] ? 0 : 1));
    }
    all_.resize(std::max<std::size_t>(Case::inputs, n_));
    std::iota(all_.begin(), all_.end(), 0);
    A_ = Buffer(weights_);
    W_ = Buffer(weights_);
    dA_ = Buffer(weights_);
    dW_ = Buffer(weights_);
    for (std::size_t l = 0; l < 4; ++l) {
      for_weights(l, [&](std::size_t here, std::size_t there) {
        A_[here] = static_cast<float>(parameters[layout_.layers[l].alpha + there]);
        W_[here] = static_cast<float>(parameters[layout_.layers[l].weight + there]);
      });
    }
  }

  double train_step(const Data& data) override {
    const double loss = run(data, train_lanes_, true);
#pragma omp parallel for num_threads(case_.threads)
    for (std::size_t i = 0; i < weights_; ++i) {
      float a = 0, w = 0;
      for (const auto& lane : train_lanes_) {
        a += lane->dA[i];
        w += lane->dW[i];
      }
      dA_[i] = a;
      dW_[i] = w;
    }
    return loss;
  }

  double forward(const Data& data) override { return run(data, forward_lanes_, false); }

  Walked walked() const override {
    Walked sum;
    for (const Lanes* lanes_of_threads : {&train_lanes_, &forward_lanes_}) {
      for (const auto& lane : *lanes_of_threads) sum += lane->walked;
    }
    return sum;
  }

  double weights() const override { return static_cast<double>(weights_); }

  naive::Result result() const override {
    naive::Result r;
    r.gradient.assign(layout_.size, 0.0);
    for (std::size_t l = 0; l < 4; ++l) {
      for_weights(l, [&](std::size_t here, std::size_t there) {
        r.gradient[layout_.layers[l].alpha + there] = static_cast<double>(dA_[here]);
        r.gradient[layout_.layers[l].weight + there] = static_cast<double>(dW_[here]);
      });
    }
    for (const auto& lane : train_lanes_) {
      r.rate += lane->rate;
      r.decay += lane->keep;
    }
    return r;
  }

 private:
  using Lanes = std::vector<std::unique_ptr<Lane<P>>>;

  // f(place in panels, place in [inputs][outputs]) for every weight of a layer.
  template <class F>
  void for_weights(std::size_t l, F&& f) const {
    const Matrix& m = matrices_[l];
    for (std::size_t i = 0; i < m.rows; ++i) {
      for (std::size_t j = 0; j < m.cols; ++j) {
        const std::size_t panel = j / P::width * P::width;
        f(m.offset + panel * m.rows + i * P::width + j % P::width,
          m.across ? j * m.rows + i : i * m.cols + j);
      }
    }
  }

  double run(const Data& data, Lanes& lanes_of_threads, bool train) {
    const auto threads = static_cast<std::size_t>(case_.threads);
    lanes_of_threads.resize(threads);
#pragma omp parallel num_threads(case_.threads)
    {
      auto& lane = lanes_of_threads[static_cast<std::size_t>(omp_get_thread_num())];
      // Made by the thread that uses it.
      if (!lane) {
        lane = std::make_unique<Lane<P>>(weights_, n_, gates_, settings_.all_outputs(), steps_,
                                         train ? copy_[steps_ - 1] + 1 : 1, train);
      }
#ifdef __SSE__
      const unsigned mode = _mm_getcsr();
      _mm_setcsr(mode | 0x8040);  // fast weights that only decay become denormal: flush them
#endif
      if (train) {
        lane->dA.clear();
        lane->dW.clear();
      }
      lane->walked = {};
      lane->loss = lane->rate = 0;
      lane->keep = 0;
#pragma omp for schedule(static)
      for (std::size_t first = 0; first < batch_; ++first) {
        run_forward(*lane, data, first, train);
        if (train) run_backward(*lane);
      }
#ifdef __SSE__
      _mm_setcsr(mode);
#endif
    }
    double loss = 0;
    for (const auto& lane : lanes_of_threads) loss += lane->loss;
    return loss / static_cast<double>(batch_ * steps_);
  }

  float* state(Lane<P>& lane, std::size_t t, bool train) const {
    return lane.states[train ? copy_[t] : 0];
  }

  void run_forward(Lane<P>& lane, const Data& data, std::size_t first, bool train) const {
    const std::size_t n = n_, O = settings_.all_outputs();
    const float d_loss = 2 / static_cast<float>(batch_ * steps_);
    const float inner = static_cast<float>(2 * settings_.inner_scale / static_cast<double>(O));
    lane.states[0].clear();
    for (std::size_t t = 0; t < steps_; ++t) {
      float* x = lane.x + t * Case::inputs;
      const float* from = data.inputs.data() + (first * steps_ + t) * Case::inputs;
      std::copy_n(from, Case::inputs, x);
      float* e = lane.e + t * n;
      const float* h_before = lane.h + t * n;
      float* h = lane.h + (t + 1) * n;
      float* gates = lane.gates_ + t * gates_;
      float* o = lane.o + t * O;
      std::fill_n(e, n, 0.f);
      std::fill_n(gates, gates_, 0.f);
      std::fill_n(o, O, 0.f);
      advance(lane, in_fc, t, x, e, train);
      for (std::size_t k = 0; k < n; ++k) e[k] = e[k] > 0 ? e[k] : 0;
      advance(lane, h_fc, t, h_before, gates, train);
      advance(lane, i_fc, t, e, gates, train);
      if (case_.lstm) {
        float* z = gates;
        const float* c_before = lane.c + t * n;
        float* c = lane.c + (t + 1) * n;
        for (std::size_t k = 0; k < n; ++k) {
          z[k] = unit(0.5f + z[k] / 4);
          z[n + k] = unit(0.5f + z[n + k] / 4);
          z[2 * n + k] = symmetric(z[2 * n + k]);
          z[3 * n + k] = unit(0.5f + z[3 * n + k] / 4);
          c[k] = z[n + k] * c_before[k] + z[k] * z[2 * n + k];
          h[k] = z[3 * n + k] * symmetric(c[k]);
        }
      } else {
        for (std::size_t k = 0; k < n; ++k) h[k] = gates[k] = gates[k] > 0 ? gates[k] : 0;
      }
      advance(lane, out_fc, t, h, o, train);
      const float error = o[0] - data.targets[first * steps_ + t];
      lane.loss += static_cast<double>(error * error);
      float* o_adj = lane.o_adj + t * O;
      std::fill_n(o_adj, O, 0.f);
      o_adj[0] = d_loss * error;
      if (case_.rule == Rule::gradient && t + 1 < steps_) propose(lane, t, inner, train);
    }
  }

  // Vectors of a matrix that a pass over those rows visits.
  static double vectors(const Matrix& m, Rows rows) {
    const std::size_t count = rows.count * (m.cols / lanes);
    return static_cast<double>(count);
  }

  // All rows of a layer, or those where one of some vectors is not 0.
  Rows all_rows(const Matrix& m) const { return {all_.data(), m.rows}; }
  template <class... More>
  Rows alive_rows(Lane<P>& lane, const Matrix& m, const float* a, const More*... more) const {
    const auto count =
        kernels::nonzero_rows(static_cast<plastic::Index>(m.rows), lane.rows.data(), a, more...);
    return {lane.rows.data(), static_cast<std::size_t>(count)};
  }
  // Whether a layer's input comes from a relu, or is a constant.
  bool has_silent_rows(std::size_t l) const {
    return l == in_fc || l == i_fc || (l == h_fc && !case_.lstm);
  }

  // y += x (W + w_t), with the update that leads to w_t.
  void advance(Lane<P>& lane, std::size_t l, std::size_t t, const float* x, float* y,
               bool train) const {
    const Matrix& m = matrices_[l];
    if (t == 0) {
      lane.walked.reads += vectors(m, all_rows(m));
      m.across ? P::read_across(m, all_rows(m), W_, lane.states[0], 1, x, y)
               : P::read_down(m, all_rows(m), W_, lane.states[0], 1, x, y);
      return;
    }
    const Factors change = factors(lane, l, t - 1);
    const float* from = state(lane, t - 1, train);
    float* to = state(lane, t, train);
    const bool odd = t % 2 != 0;
    const Rows rows =
        lazy_[t] && has_silent_rows(l) ? alive_rows(lane, m, change.f, x) : all_rows(m);
    lane.walked.updates += vectors(m, rows);
    const auto pass = [&]<bool Across, bool Lazy>() {
      P::template update<Across, Lazy>(m, rows, A_, W_, from, to, odd, eta / scale_[t],
                                       rho * scale_[t - 1], scale_[t], change.f, change.g, x, y);
    };
    if (m.across) {
      lazy_[t] ? pass.template operator()<true, true>() : pass.template operator()<true, false>();
    } else {
      lazy_[t] ? pass.template operator()<false, true>() : pass.template operator()<false, false>();
    }
  }

  // Row and column factor of the change that step t proposes for a layer.
  struct Factors {
    const float *f, *g;
  };
  Factors factors(const Lane<P>& lane, std::size_t l, std::size_t t) const {
    const std::size_t O = settings_.all_outputs();
    const bool inner = case_.rule == Rule::gradient;
    const float* z = (inner ? lane.d_z : lane.gates_) + t * gates_;
    if (l == in_fc) {
      return {lane.x + t * Case::inputs, (inner ? lane.d_e : lane.e) + t * n_};
    }
    if (l == h_fc) return {lane.h + t * n_, z};
    if (l == i_fc) return {lane.e + t * n_, z};
    return {(inner ? lane.d_o : lane.o) + t * O, lane.h + (t + 1) * n_};
  }

  // The inner gradient.
  void propose(Lane<P>& lane, std::size_t t, float inner, bool train) const {
    const std::size_t n = n_, O = settings_.all_outputs();
    const float* w = state(lane, t, train);
    float* d_o = lane.d_o + t * O;
    float* u_h = lane.u_h + t * n;
    float* d_z = lane.d_z + t * gates_;
    float* d_e = lane.d_e + t * n;
    const float* e = lane.e + t * n;
    for (std::size_t k = 0; k < O; ++k) d_o[k] = inner * lane.o[t * O + k];
    std::fill_n(u_h, n, 0.f);
    const Rows all_outputs = all_rows(matrices_[out_fc]);
    lane.walked.reads += vectors(matrices_[out_fc], all_outputs);
    P::read_down(matrices_[out_fc], all_outputs, W_, w, scale_[t], d_o, u_h);
    const float* z = lane.gates_ + t * gates_;
    const float* u = u_h;
    float* d = d_z;
    const float* c_before = lane.c + t * n;
    const float* c = lane.c + (t + 1) * n;
    for (std::size_t k = 0; k < n; ++k) {
      if (!case_.lstm) {
        d[k] = z[k] > 0 ? u[k] : 0;
        continue;
      }
      const float i = z[k], f = z[n + k], g = z[2 * n + k], o = z[3 * n + k];
      const float tanh_c = symmetric(c[k]);
      const float dc = u[k] * o * d_symmetric(tanh_c);
      d[k] = dc * g * d_unit(i);
      d[n + k] = dc * c_before[k] * d_unit(f);
      d[2 * n + k] = dc * i * d_symmetric(g);
      d[3 * n + k] = u[k] * tanh_c * d_unit(o);
    }
    std::fill_n(d_e, n, 0.f);
    const Rows alive = alive_rows(lane, matrices_[i_fc], e);
    lane.walked.reads += vectors(matrices_[i_fc], alive);
    P::read_across(matrices_[i_fc], alive, W_, w, scale_[t], d_z, d_e);
    for (std::size_t k = 0; k < n; ++k) d_e[k] = e[k] > 0 ? d_e[k] : 0;
  }

  void run_backward(Lane<P>& lane) const {
    const std::size_t n = n_, O = settings_.all_outputs();
    const bool gradient = case_.rule == Rule::gradient;
    const float inner = static_cast<float>(2 * settings_.inner_scale / static_cast<double>(O));
    lane.G.clear();
    for (Buffer& b : lane.df) b.clear();
    for (Buffer& b : lane.dg) b.clear();
    lane.h_next.clear();
    lane.c_adj.clear();
    std::fill_n(lane.scale_adj, 4, 0.0);
    for (std::size_t t = steps_; t-- > 0;) {
      const float* e = lane.e + t * n;
      const float* z = lane.gates_ + t * gates_;
      float* o_adj = lane.o_adj + t * O;
      float* u_e_adj = lane.u_e_adj + t * n;
      float* u_h_adj = lane.u_h_adj + t * n;
      float* z_adj = lane.z_adj + t * gates_;
      float* z_in_adj = lane.z_in_adj + t * n;
      const float* w = state(lane, t, true);
      lane.gates_adj.clear();
      lane.c_before_adj.clear();
      lane.e_adj.clear();
      for (std::size_t k = 0; k < n; ++k) lane.h_adj[k] = lane.h_next[k];
      // The last step changes nothing that is read: its proposal has no adjoint.
      const bool proposed = t + 1 < steps_;
      if (!gradient) {
        for (std::size_t k = 0; k < n; ++k) lane.e_adj[k] += lane.dg[in_fc][k];
        for (std::size_t k = 0; k < gates_; ++k) {
          lane.gates_adj[k] += lane.dg[h_fc][k] + lane.dg[i_fc][k];
        }
        for (std::size_t k = 0; k < O; ++k) o_adj[k] += lane.df[out_fc][k];
      } else if (proposed) {
        for (std::size_t k = 0; k < n; ++k) u_e_adj[k] = e[k] > 0 ? lane.dg[in_fc][k] : 0;
        float* dz_adj = lane.dg[h_fc];
        for (std::size_t k = 0; k < gates_; ++k) dz_adj[k] += lane.dg[i_fc][k];
        const Rows alive = alive_rows(lane, matrices_[i_fc], u_e_adj);
        const Rows all_outputs = all_rows(matrices_[out_fc]);
        lane.walked.reads +=
            vectors(matrices_[i_fc], alive) + vectors(matrices_[out_fc], all_outputs);
        lane.scale_adj[i_fc] += static_cast<double>(P::read_down(
            matrices_[i_fc], alive, W_, w, scale_[t], u_e_adj, dz_adj, lane.d_z + t * gates_));
        propose_adjoint(lane, t, dz_adj);
        for (std::size_t k = 0; k < O; ++k) lane.do_adj[k] = lane.df[out_fc][k];
        lane.scale_adj[out_fc] +=
            static_cast<double>(P::read_across(matrices_[out_fc], all_outputs, W_, w, scale_[t],
                                               u_h_adj, lane.do_adj, lane.d_o + t * O));
        for (std::size_t k = 0; k < O; ++k) o_adj[k] += inner * lane.do_adj[k];
      } else {
        std::fill_n(u_e_adj, n, 0.f);
        std::fill_n(u_h_adj, n, 0.f);
        std::fill_n(lane.d_z + t * gates_, gates_, 0.f);
        std::fill_n(lane.d_o + t * O, O, 0.f);
      }
      for (std::size_t k = 0; k < n; ++k) {
        lane.h_adj[k] += lane.dg[out_fc][k];
        lane.e_adj[k] += lane.df[i_fc][k];
        lane.h_next[k] = lane.df[h_fc][k];
      }
      for (Buffer& b : lane.df) b.clear();
      for (Buffer& b : lane.dg) b.clear();

      retreat(lane, out_fc, t, {o_adj, lane.h + (t + 1) * n, lane.d_o + t * O, u_h_adj},
              lane.h_adj);
      const float* gate = z;
      const float* g_adj = lane.gates_adj;
      float* out = z_adj;
      for (std::size_t k = 0; k < n; ++k) {
        const float dh = lane.h_adj[k];
        if (!case_.lstm) {
          out[k] = gate[k] > 0 ? dh + g_adj[k] : 0;
          continue;
        }
        const float i = gate[k], f = gate[n + k], g = gate[2 * n + k], o = gate[3 * n + k];
        const float c_before = lane.c[t * n + k];
        const float tanh_c = symmetric(lane.c[(t + 1) * n + k]);
        float& c_adj = lane.c_adj[k];
        const float dc = c_adj + dh * o * d_symmetric(tanh_c);
        out[k] = (g_adj[k] + dc * g) * d_unit(i);
        out[n + k] = (g_adj[n + k] + dc * c_before) * d_unit(f);
        out[2 * n + k] = (g_adj[2 * n + k] + dc * i) * d_symmetric(g);
        out[3 * n + k] = (g_adj[3 * n + k] + dh * tanh_c) * d_unit(o);
        c_adj = dc * f + lane.c_before_adj[k];
      }
      retreat(lane, i_fc, t, {e, z_adj, u_e_adj, lane.d_z + t * gates_}, lane.e_adj);
      retreat(lane, h_fc, t, {lane.h + t * n, z_adj, nullptr, nullptr}, lane.h_next);
      for (std::size_t k = 0; k < n; ++k) z_in_adj[k] = e[k] > 0 ? lane.e_adj[k] : 0;
      // Its product is the adjoint of x. Nobody needs that, but it costs little.
      retreat(lane, in_fc, t, {lane.x + t * Case::inputs, z_in_adj, nullptr, nullptr},
              lane.gates_adj);
    }
    const auto add_outer_products = [&](std::size_t l, const float* a, const float* b) {
      lane.walked.outer_products +=
          static_cast<double>(steps_) * vectors(matrices_[l], all_rows(matrices_[l]));
      P::outer_products(matrices_[l], a, b, steps_, lane.dW);
    };
    add_outer_products(in_fc, lane.x, lane.z_in_adj);
    add_outer_products(h_fc, lane.h, lane.z_adj);
    add_outer_products(i_fc, lane.e, lane.z_adj);
    add_outer_products(out_fc, lane.o_adj, lane.h + n);
    if (gradient) {
      add_outer_products(i_fc, lane.u_e_adj, lane.d_z);
      add_outer_products(out_fc, lane.d_o, lane.u_h_adj);
    }
  }

  struct Uses {
    const float *a1, *b1, *a2, *b2;
  };

  // The uses of step t and the update before it; without one, the product alone.
  void retreat(Lane<P>& lane, std::size_t l, std::size_t t, const Uses& uses,
               float* product) const {
    const Matrix& m = matrices_[l];
    float* v = state(lane, t, true);
    if (t == 0) {
      // Nobody needs the adjoints of x and of the state before the first step.
      if (l != i_fc && l != out_fc) return;
      const Rows rows = l == i_fc ? alive_rows(lane, m, uses.a1) : all_rows(m);
      lane.walked.reads += vectors(m, rows);
      l == i_fc ? P::read_across(m, rows, W_, v, 1, uses.b1, product)
                : P::read_down(m, rows, W_, v, 1, uses.a1, product);
      return;
    }
    const auto [f, g] = factors(lane, l, t - 1);
    const bool lazy = lazy_[t];
    const float rate = eta / scale_[t], product_of_keeps = rho * scale_[t - 1];
    typename P::Adjoint all{f,       g,       uses.a1,    uses.b1,    uses.a2,
                            uses.b2, product, lane.df[l], lane.dg[l], 0};
    const bool second = case_.rule == Rule::gradient && l >= i_fc;
    const bool odd = t % 2 != 0;
    Rows rows = all_rows(m);
    if (lazy && has_silent_rows(l)) {
      rows = second ? alive_rows(lane, m, f, uses.a1, uses.a2) : alive_rows(lane, m, f, uses.a1);
    }
    (second ? lane.walked.adjoints_of_two : lane.walked.adjoints) += vectors(m, rows);
    const auto pass = [&]<bool Across, bool Second>() {
      lazy ? P::template adjoint<Across, Second, true>(m, rows, A_, W_, v, nullptr, lane.G, lane.dA,
                                                       odd, rate, 1, scale_[t], all)
           : P::template adjoint<Across, Second, false>(m, rows, A_, W_, v,
                                                        state(lane, t - 1, true), lane.G, lane.dA,
                                                        odd, rate, product_of_keeps, 1, all);
    };
    if (m.across) {
      second ? pass.template operator()<true, true>() : pass.template operator()<true, false>();
    } else {
      second ? pass.template operator()<false, true>() : pass.template operator()<false, false>();
    }
    double of_rate = 0;
    for (std::size_t i = 0; i < m.rows; ++i) {
      of_rate += static_cast<double>(f[i] * lane.df[l][i]);
      lane.df[l][i] *= rate;
    }
    for (std::size_t j = 0; j < m.cols; ++j) lane.dg[l][j] *= rate;
    const auto scale = static_cast<double>(scale_[t]);
    double of_product = all.scalar;
    if (lazy) of_product += lane.scale_adj[l] - of_rate * static_cast<double>(rate) / scale;
    lane.rate += of_rate / scale;
    lane.keep += static_cast<double>(scale_[t - 1]) * of_product;
    lane.scale_adj[l] = static_cast<double>(rho) * of_product;
  }

  // Adjoint of the cell's part of `propose`: from dz to u_h, the gates and c.
  void propose_adjoint(Lane<P>& lane, std::size_t t, const float* dz_adj) const {
    const std::size_t n = n_;
    const float* z = lane.gates_ + t * gates_;
    const float* Z = dz_adj;
    const float* u = lane.u_h + t * n;
    float* u_adj = lane.u_h_adj + t * n;
    float* g_adj = lane.gates_adj;
    for (std::size_t k = 0; k < n; ++k) {
      if (!case_.lstm) {
        u_adj[k] = z[k] > 0 ? Z[k] : 0;
        continue;
      }
      const float i = z[k], f = z[n + k], g = z[2 * n + k], o = z[3 * n + k];
      const float c_before = lane.c[t * n + k], c = lane.c[(t + 1) * n + k];
      const float tanh_c = symmetric(c), inside = d_symmetric(tanh_c);
      const float dc = u[k] * o * inside;
      const float dc_adj = Z[k] * g * d_unit(i) + Z[n + k] * c_before * d_unit(f) +
                           Z[2 * n + k] * i * d_symmetric(g);
      u_adj[k] = Z[3 * n + k] * tanh_c * d_unit(o) + dc_adj * o * inside;
      g_adj[k] += Z[2 * n + k] * dc * d_symmetric(g);
      g_adj[2 * n + k] += Z[k] * dc * d_unit(i);
      g_adj[3 * n + k] += dc_adj * u[k] * inside;
      lane.c_adj[k] += Z[3 * n + k] * u[k] * d_unit(o) * inside;
      lane.c_before_adj[k] = Z[n + k] * dc * d_unit(f);
    }
  }

  Case case_;
  naive::Settings settings_;
  naive::Layout layout_;
  std::size_t n_, gates_, steps_, batch_;
  std::vector<Matrix> matrices_;
  // For each step: whether the update that leads to it is lazy, the scale after it, and which of
  // the kept states it is in.
  std::vector<bool> lazy_;
  std::vector<float> scale_;
  std::vector<std::size_t> copy_;
  std::vector<std::int32_t> all_;
  std::size_t weights_ = 0;
  Buffer A_, W_, dA_, dW_;
  Lanes train_lanes_, forward_lanes_;
};

}  // namespace

naive::Settings limit_settings(const Case& c) {
  naive::Settings s;
  s.lstm = c.lstm;
  s.rule = c.rule;
  s.hidden = static_cast<std::size_t>(c.hidden);
  s.extra = Case::extra + 1;  // there is an output for modulation, but it is not used
  s.modulation = false;
  s.eta0 = static_cast<double>(eta);
  s.decay0 = 1 - static_cast<double>(rho);
  s.max_norm = 1e30;
  s.piecewise_gates = true;
  return s;
}

std::unique_ptr<Limit> make_limit(const Case& c, const naive::Numbers& parameters) {
  if (c.rule == Rule::none || (c.hidden != 64 && c.hidden % 128 != 0)) {
    throw std::invalid_argument(
        "make_limit: expected a plastic rule and hidden 64 or a multiple of 128");
  }
  constexpr int sixty_four = 64 / lanes;
  if (c.hidden == 64) return std::make_unique<Network<Passes<sixty_four>>>(c, parameters);
  return std::make_unique<Network<Passes<2 * sixty_four>>>(c, parameters);
}

}  // namespace bench
