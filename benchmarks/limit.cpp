#include "limit.hpp"

#include <omp.h>

#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>

#ifdef __SSE__
#include <xmmintrin.h>
#endif

// One sample (or two) at a time goes through its whole episode on one thread, so that its weights
// stay in the second-level cache. A forward step is one pass per layer: read w, A, W, write w. A
// backward step is one pass: read w, A, W, G, dA, write w, G, dA, with all products of the adjoint.
// The gradient rule reads W + w of i_fc and out_fc once more in each direction.
//
// Measured on one core with AVX-512, 48 KB and 1 MB of cache (AMD Zen 5), as microseconds per
// sample and step, hidden 128, 20 steps, RNN: passes alone with g++ 12 and clang++ 14, whole steps
// with clang++ 14. The machine was shared: differences below a tenth mean little.
//
// How backward gets w_t, Hebbian forward passes / backward passes alone:
//   a copy of w at every step                                           3.5-4.0 / 4.8-5.2
//   a copy every 4 steps, updates replayed in registers                 2.2-2.6 / 6.5-6.9
//   undone in place, w_{t-1} = (w_t - change) / rho, a copy every 4     2.2-2.5 / 4.6-4.8
//   the same, a copy every 8 (rounding grows at most as 1 / rho^7)      2.0-2.2 / 4.4-4.7
//   the same, no copy at all (rounding as 1 / rho^T)                    2.0     / 4.4-4.5
// Forward suffers from copies most: the store of a cache line that is not there costs a read of it.
// Whole training step at a copy every 1, 4, 8, 20 steps: gradient 11.6, 9.6, 9.3, 9.1; Hebbian
// 10.8, 7.9, 7.5, 7.3; LSTM gradient 65, 52, 51, 47. Here: every 8.
//
// Samples per pass, 1, 2, 4: training RNN 9.3, 10.1, 11.6 (two samples no longer fit the cache),
// RNN with hidden 256 52, 45, 52, LSTM 51, 47, 48; forward RNN gradient 2.7, 2.2, 2.8, hidden 256
// 15.3, 12.6, 13.5. Here: 2, but 1 for training where weights are small.
//
// The passes are bound by arithmetic more than by the second-level cache: backward takes 1.57 ns
// per 16 weights there and as much in the first level. What mattered to it:
//   values of a row made vectors once per row, arguments without aliases    2.0-2.5 -> 1.6
//   eight vectors of columns per panel rather than four     5.6 -> 4.6 us of the table above
//   one row at a time rather than two                                       2.1 -> 1.6
//   panels of 128 columns contiguous, not strided in 512 (LSTM)            3.3 -> 3.1, within noise
//   decay as a scalar beside w and G (two multiplications fewer)            no difference
//   <w, G> left out                                                         no difference
//   horizontal sums left out                                                1.95 -> 1.84
//   offsets between the matrices, large pages                               no difference

namespace bench {
namespace {

#if defined(__AVX512F__)
constexpr std::size_t lanes = 16;
#elif defined(__AVX__)
constexpr std::size_t lanes = 8;
#else
constexpr std::size_t lanes = 4;
#endif

// A vector register; the compilers spell out the operations on it.
typedef float Vec __attribute__((vector_size(lanes * sizeof(float))));

inline Vec load(const float* from) {
  Vec v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
inline void store(float* to, const Vec& v) { std::memcpy(to, &v, sizeof v); }
inline void add_to(float* to, const Vec& v) { store(to, load(to) + v); }
inline Vec splat(float x) { return Vec{} + x; }
inline float sum(const Vec& v) {
  typedef float Four __attribute__((vector_size(16)));
  Four four{};
  for (std::size_t i = 0; i < lanes; i += 4) {
    Four part;
    std::memcpy(&part, reinterpret_cast<const char*>(&v) + i * sizeof(float), sizeof part);
    four += part;
  }
  return (four[0] + four[2]) + (four[1] + four[3]);
}

class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t size) : size_(size) {
    const std::size_t bytes = (size * sizeof(float) + 63) / 64 * 64;
    data_.reset(static_cast<float*>(std::aligned_alloc(64, bytes + 64)));
    if (!data_) throw std::bad_alloc();
    clear();
  }
  operator float*() const { return data_.get(); }
  std::size_t size() const { return size_; }
  void clear() { std::memset(data_.get(), 0, size_ * sizeof(float)); }

 private:
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  std::unique_ptr<float[], Free> data_;
  std::size_t size_ = 0;
};

// A layer's matrix: panels of `width` columns, each contiguous, row by row. out_fc has few outputs,
// so it is kept transposed, with its outputs as rows: `across`.
struct Matrix {
  std::size_t rows, cols, offset;
  bool across;
};

// Every other update goes through the panels from the last to the first (`backwards`): of matrices
// that the second-level cache cannot hold it finds there what the pass before has left.
//
// Passes over one matrix for S samples at once, in column panels of N vectors whose sums stay in
// registers. Vectors of sample s begin at s * rows or s * cols, its weights at s * stride. Values
// that belong to a row are made vectors once per row: left to the compiler, which cannot know that
// no store changes them, that costs a fifth of the time.
template <int S, int N>
struct Passes {
  static constexpr std::size_t width = N * lanes;
  static constexpr std::size_t samples = S;

  // y += x (W + w), down the rows.
  static void read_down(const Matrix& m, const float* W, const float* w, std::size_t stride,
                        const float* x, float* y) {
    for (std::size_t c = 0; c < m.cols; c += width) {
      const std::size_t panel = m.offset + c * m.rows;
      Vec total[S][N] = {};
      for (std::size_t i = 0; i < m.rows; ++i) {
        Vec xi[S];
        for (std::size_t s = 0; s < S; ++s) xi[s] = splat(x[s * m.rows + i]);
        for (std::size_t k = 0; k < N; ++k) {
          const std::size_t at = panel + i * width + k * lanes;
          const Vec slow = load(W + at);
          for (std::size_t s = 0; s < S; ++s) {
            total[s][k] += xi[s] * (slow + load(w + s * stride + at));
          }
        }
      }
      for (std::size_t s = 0; s < S; ++s) {
        for (std::size_t k = 0; k < N; ++k) add_to(y + s * m.cols + c + k * lanes, total[s][k]);
      }
    }
  }

  // u += (W + w) d, across the columns.
  static void read_across(const Matrix& m, const float* W, const float* w, std::size_t stride,
                          const float* d, float* u) {
    for (std::size_t c = 0; c < m.cols; c += width) {
      const std::size_t panel = m.offset + c * m.rows;
      for (std::size_t i = 0; i < m.rows; ++i) {
        Vec total[S] = {};
        for (std::size_t k = 0; k < N; ++k) {
          const std::size_t at = panel + i * width + k * lanes;
          const Vec slow = load(W + at);
          for (std::size_t s = 0; s < S; ++s) {
            total[s] += load(d + s * m.cols + c + k * lanes) * (slow + load(w + s * stride + at));
          }
        }
        for (std::size_t s = 0; s < S; ++s) u[s * m.rows + i] += sum(total[s]);
      }
    }
  }

  // to = rho from + A (eta f g^T), y += x (W + to): down the rows, or across the columns.
  template <bool Across>
  static void update(const Matrix& m, const float* A, const float* W, const float* from, float* to,
                     std::size_t stride, bool backwards, float eta, float rho, const float* f,
                     const float* g, const float* x, float* y) {
    const Vec keep = splat(rho);
    for (std::size_t done = 0; done < m.cols; done += width) {
      const std::size_t c = backwards ? m.cols - width - done : done;
      const std::size_t panel = m.offset + c * m.rows;
      Vec total[S][N] = {};
      for (std::size_t i = 0; i < m.rows; ++i) {
        Vec fi[S], xi[S], row[S] = {};
        for (std::size_t s = 0; s < S; ++s) {
          fi[s] = splat(eta * f[s * m.rows + i]);
          if constexpr (!Across) xi[s] = splat(x[s * m.rows + i]);
        }
        for (std::size_t k = 0; k < N; ++k) {
          const std::size_t at = panel + i * width + k * lanes;
          const Vec a = load(A + at), slow = load(W + at);
          for (std::size_t s = 0; s < S; ++s) {
            const std::size_t column = s * m.cols + c + k * lanes;
            const Vec w = keep * load(from + s * stride + at) + fi[s] * load(g + column) * a;
            store(to + s * stride + at, w);
            if constexpr (Across) {
              row[s] += load(x + column) * (slow + w);
            } else {
              total[s][k] += xi[s] * (slow + w);
            }
          }
        }
        if constexpr (Across) {
          for (std::size_t s = 0; s < S; ++s) y[s * m.rows + i] += sum(row[s]);
        }
      }
      if constexpr (!Across) {
        for (std::size_t s = 0; s < S; ++s) {
          for (std::size_t k = 0; k < N; ++k) add_to(y + s * m.cols + c + k * lanes, total[s][k]);
        }
      }
    }
  }

  struct Adjoint {
    const float *f, *g;    // factors of the update before this step
    const float *a1, *b1;  // uses of this step: G += a1 b1^T (+ a2 b2^T)
    const float *a2, *b2;
    float* product;  // += (W + w) b1, or a1 (W + w) where Across
    float* df;       // += M g
    float* dg;       // += f M
    float* keep;     // += <w before the update, G>
  };

  // The fused backward pass over step and update. Undo: `w` holds the weights after the update and
  // receives those before it; else `before` holds the latter.
  template <bool Across, bool Second, bool Undo>
  static void adjoint(const Matrix& m, const float* A, const float* W, float* w,
                      const float* before, float* G, float* dA, std::size_t stride, bool backwards,
                      float eta, float rho, const Adjoint& v) {
    const Vec keep = splat(rho), unkeep = splat(1 / rho);
    for (std::size_t done = 0; done < m.cols; done += width) {
      const std::size_t c = backwards ? m.cols - width - done : done;
      const std::size_t panel = m.offset + c * m.rows;
      Vec dg[S][N] = {}, down[S][N] = {}, keep_sum[S][2] = {};
      for (std::size_t i = 0; i < m.rows; ++i) {
        Vec f[S], rate[S], a1[S], a2[S], across[S] = {}, df[S] = {};
        for (std::size_t s = 0; s < S; ++s) {
          const std::size_t at = s * m.rows + i;
          f[s] = splat(v.f[at]);
          rate[s] = splat(eta * v.f[at]);
          a1[s] = splat(v.a1[at]);
          if constexpr (Second) a2[s] = splat(v.a2[at]);
        }
        for (std::size_t k = 0; k < N; ++k) {
          const std::size_t at = panel + i * width + k * lanes;
          const Vec a = load(A + at), slow = load(W + at);
          Vec alpha_adjoint = load(dA + at);
          for (std::size_t s = 0; s < S; ++s) {
            const std::size_t column = s * m.cols + c + k * lanes;
            const Vec g = load(v.g + column), b1 = load(v.b1 + column);
            const Vec change = rate[s] * g;
            const Vec after = load(w + s * stride + at);
            Vec old;
            if constexpr (Undo) {
              old = (after - change * a) * unkeep;
              store(w + s * stride + at, old);
            } else {
              old = load(before + s * stride + at);
            }
            Vec adj = load(G + s * stride + at) + a1[s] * b1;
            if constexpr (Second) adj += a2[s] * load(v.b2 + column);
            if constexpr (Across) {
              down[s][k] += a1[s] * (slow + after);
            } else {
              across[s] += b1 * (slow + after);
            }
            keep_sum[s][k % 2] += old * adj;
            const Vec M = a * adj;
            df[s] += M * g;
            dg[s][k] += f[s] * M;
            alpha_adjoint += change * adj;
            store(G + s * stride + at, keep * adj);
          }
          store(dA + at, alpha_adjoint);
        }
        for (std::size_t s = 0; s < S; ++s) {
          if constexpr (!Across) v.product[s * m.rows + i] += sum(across[s]);
          v.df[s * m.rows + i] += sum(df[s]);
        }
      }
      for (std::size_t s = 0; s < S; ++s) {
        *v.keep += sum(keep_sum[s][0] + keep_sum[s][1]);
        for (std::size_t k = 0; k < N; ++k) {
          const std::size_t column = s * m.cols + c + k * lanes;
          add_to(v.dg + column, dg[s][k]);
          if constexpr (Across) add_to(v.product + column, down[s][k]);
        }
      }
    }
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
constexpr std::size_t interval = 8;
constexpr std::size_t in_fc = 0, h_fc = 1, i_fc = 2, out_fc = 3;

float unit(float x) { return x < 0 ? 0.f : x > 1 ? 1.f : x; }
float symmetric(float x) { return x < -1 ? -1.f : x > 1 ? 1.f : x; }
float d_unit(float y) { return y > 0 && y < 1 ? 0.25f : 0.f; }
float d_symmetric(float y) { return y > -1 && y < 1 ? 1.f : 0.f; }

// What one thread works in.
template <class P>
struct Lane {
  static constexpr std::size_t S = P::samples;

  Lane(std::size_t weights, std::size_t n, std::size_t gates, std::size_t O, std::size_t steps,
       bool train)
      : G(train ? S * weights : 0),
        dA(train ? weights : 0),
        dW(train ? weights : 0),
        x(steps * S * Case::inputs),
        e(steps * S * n),
        h((steps + 1) * S * n),
        gates_(steps * S * gates),
        c((steps + 1) * S * n),
        u_h(steps * S * n),
        o(steps * S * O),
        d_e(steps * S * n),
        d_z(steps * S * gates),
        d_o(steps * S * O),
        z_in_adj(steps * S * n),
        z_adj(steps * S * gates),
        o_adj(steps * S * O),
        u_e_adj(steps * S * n),
        u_h_adj(steps * S * n) {
    const std::size_t kept = train ? (steps + interval - 1) / interval : 1;
    for (std::size_t k = 0; k < kept; ++k) states.emplace_back(S * weights);
    for (std::size_t l = 0; l < 4; ++l) {
      const std::size_t longest = std::max(gates, n);
      df.emplace_back(S * longest);
      dg.emplace_back(S * longest);
    }
    h_adj = Buffer(S * n);
    h_next = Buffer(S * n);
    e_adj = Buffer(S * n);
    c_adj = Buffer(S * n);
    c_before_adj = Buffer(S * n);
    gates_adj = Buffer(S * gates);
    do_adj = Buffer(S * O);
  }

  std::vector<Buffer> states;
  Buffer G, dA, dW;
  // Of every step [step][sample][...]; h and c begin with the zeros before the first step.
  Buffer x, e, h, gates_, c, u_h, o, d_e, d_z, d_o, z_in_adj, z_adj, o_adj, u_e_adj, u_h_adj;
  std::vector<Buffer> df, dg;
  Buffer h_adj, h_next, e_adj, c_adj, c_before_adj, gates_adj, do_adj;
  double loss = 0, rate = 0;
  float keep = 0;
};

template <class P>
class Network final : public Limit {
  static constexpr std::size_t S = P::samples;

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
      r.decay += static_cast<double>(lane->keep);
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
        lane =
            std::make_unique<Lane<P>>(weights_, n_, gates_, settings_.all_outputs(), steps_, train);
      }
#ifdef __SSE__
      const unsigned mode = _mm_getcsr();
      _mm_setcsr(mode | 0x8040);  // fast weights that only decay become denormal: flush them
#endif
      if (train) {
        lane->dA.clear();
        lane->dW.clear();
      }
      lane->loss = lane->rate = 0;
      lane->keep = 0;
#pragma omp for schedule(static)
      for (std::size_t first = 0; first < batch_; first += S) {
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
    return lane.states[train ? t / interval : 0];
  }

  void run_forward(Lane<P>& lane, const Data& data, std::size_t first, bool train) const {
    const std::size_t n = n_, O = settings_.all_outputs();
    const float d_loss = 2 / static_cast<float>(batch_ * steps_);
    const float inner = static_cast<float>(2 * settings_.inner_scale / static_cast<double>(O));
    lane.states[0].clear();
    for (std::size_t t = 0; t < steps_; ++t) {
      float* x = lane.x + t * S * Case::inputs;
      for (std::size_t s = 0; s < S; ++s) {
        const float* from = data.inputs.data() + ((first + s) * steps_ + t) * Case::inputs;
        std::copy_n(from, Case::inputs, x + s * Case::inputs);
      }
      float* e = lane.e + t * S * n;
      const float* h_before = lane.h + t * S * n;
      float* h = lane.h + (t + 1) * S * n;
      float* gates = lane.gates_ + t * S * gates_;
      float* o = lane.o + t * S * O;
      std::fill_n(e, S * n, 0.f);
      std::fill_n(gates, S * gates_, 0.f);
      std::fill_n(o, S * O, 0.f);
      advance(lane, in_fc, t, x, e, train);
      for (std::size_t k = 0; k < S * n; ++k) e[k] = e[k] > 0 ? e[k] : 0;
      advance(lane, h_fc, t, h_before, gates, train);
      advance(lane, i_fc, t, e, gates, train);
      if (case_.lstm) {
        for (std::size_t s = 0; s < S; ++s) {
          float* z = gates + s * gates_;
          const float* c_before = lane.c + (t * S + s) * n;
          float* c = lane.c + ((t + 1) * S + s) * n;
          for (std::size_t k = 0; k < n; ++k) {
            z[k] = unit(0.5f + z[k] / 4);
            z[n + k] = unit(0.5f + z[n + k] / 4);
            z[2 * n + k] = symmetric(z[2 * n + k]);
            z[3 * n + k] = unit(0.5f + z[3 * n + k] / 4);
            c[k] = z[n + k] * c_before[k] + z[k] * z[2 * n + k];
            h[s * n + k] = z[3 * n + k] * symmetric(c[k]);
          }
        }
      } else {
        for (std::size_t k = 0; k < S * n; ++k) h[k] = gates[k] = gates[k] > 0 ? gates[k] : 0;
      }
      advance(lane, out_fc, t, h, o, train);
      for (std::size_t s = 0; s < S; ++s) {
        const float error = o[s * O] - data.targets[(first + s) * steps_ + t];
        lane.loss += static_cast<double>(error * error);
        float* o_adj = lane.o_adj + (t * S + s) * O;
        std::fill_n(o_adj, O, 0.f);
        o_adj[0] = d_loss * error;
      }
      if (case_.rule == Rule::gradient && t + 1 < steps_) propose(lane, t, inner, train);
    }
  }

  // y += x (W + w_t), with the update that leads to w_t.
  void advance(Lane<P>& lane, std::size_t l, std::size_t t, const float* x, float* y,
               bool train) const {
    const Matrix& m = matrices_[l];
    if (t == 0) {
      m.across ? P::read_across(m, W_, lane.states[0], weights_, x, y)
               : P::read_down(m, W_, lane.states[0], weights_, x, y);
      return;
    }
    const auto [f, g] = factors(lane, l, t - 1);
    const float* from = state(lane, t - 1, train);
    float* to = state(lane, t, train);
    const bool odd = t % 2 != 0;
    m.across ? P::template update<true>(m, A_, W_, from, to, weights_, odd, eta, rho, f, g, x, y)
             : P::template update<false>(m, A_, W_, from, to, weights_, odd, eta, rho, f, g, x, y);
  }

  // Row and column factor of the change that step t proposes for a layer.
  std::pair<const float*, const float*> factors(const Lane<P>& lane, std::size_t l,
                                                std::size_t t) const {
    const std::size_t O = settings_.all_outputs();
    const bool inner = case_.rule == Rule::gradient;
    const float* z = (inner ? lane.d_z : lane.gates_) + t * S * gates_;
    if (l == in_fc) {
      return {lane.x + t * S * Case::inputs, (inner ? lane.d_e : lane.e) + t * S * n_};
    }
    if (l == h_fc) return {lane.h + t * S * n_, z};
    if (l == i_fc) return {lane.e + t * S * n_, z};
    return {(inner ? lane.d_o : lane.o) + t * S * O, lane.h + (t + 1) * S * n_};
  }

  // The inner gradient.
  void propose(Lane<P>& lane, std::size_t t, float inner, bool train) const {
    const std::size_t n = n_, O = settings_.all_outputs();
    const float* w = state(lane, t, train);
    float* d_o = lane.d_o + t * S * O;
    float* u_h = lane.u_h + t * S * n;
    float* d_z = lane.d_z + t * S * gates_;
    float* d_e = lane.d_e + t * S * n;
    const float* e = lane.e + t * S * n;
    for (std::size_t k = 0; k < S * O; ++k) d_o[k] = inner * lane.o[t * S * O + k];
    std::fill_n(u_h, S * n, 0.f);
    P::read_down(matrices_[out_fc], W_, w, weights_, d_o, u_h);
    for (std::size_t s = 0; s < S; ++s) {
      const float* z = lane.gates_ + (t * S + s) * gates_;
      const float* u = u_h + s * n;
      float* d = d_z + s * gates_;
      const float* c_before = lane.c + (t * S + s) * n;
      const float* c = lane.c + ((t + 1) * S + s) * n;
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
    }
    std::fill_n(d_e, S * n, 0.f);
    P::read_across(matrices_[i_fc], W_, w, weights_, d_z, d_e);
    for (std::size_t k = 0; k < S * n; ++k) d_e[k] = e[k] > 0 ? d_e[k] : 0;
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
    for (std::size_t t = steps_; t-- > 0;) {
      const float* e = lane.e + t * S * n;
      const float* z = lane.gates_ + t * S * gates_;
      float* o_adj = lane.o_adj + t * S * O;
      float* u_e_adj = lane.u_e_adj + t * S * n;
      float* u_h_adj = lane.u_h_adj + t * S * n;
      float* z_adj = lane.z_adj + t * S * gates_;
      float* z_in_adj = lane.z_in_adj + t * S * n;
      const float* w = state(lane, t, true);
      lane.gates_adj.clear();
      lane.c_before_adj.clear();
      lane.e_adj.clear();
      for (std::size_t k = 0; k < S * n; ++k) lane.h_adj[k] = lane.h_next[k];
      // The last step changes nothing that is read: its proposal has no adjoint.
      const bool proposed = t + 1 < steps_;
      if (!gradient) {
        for (std::size_t k = 0; k < S * n; ++k) lane.e_adj[k] += lane.dg[in_fc][k];
        for (std::size_t k = 0; k < S * gates_; ++k) {
          lane.gates_adj[k] += lane.dg[h_fc][k] + lane.dg[i_fc][k];
        }
        for (std::size_t k = 0; k < S * O; ++k) o_adj[k] += lane.df[out_fc][k];
      } else if (proposed) {
        for (std::size_t k = 0; k < S * n; ++k) u_e_adj[k] = e[k] > 0 ? lane.dg[in_fc][k] : 0;
        float* dz_adj = lane.dg[h_fc];
        for (std::size_t k = 0; k < S * gates_; ++k) dz_adj[k] += lane.dg[i_fc][k];
        P::read_down(matrices_[i_fc], W_, w, weights_, u_e_adj, dz_adj);
        propose_adjoint(lane, t, dz_adj);
        for (std::size_t k = 0; k < S * O; ++k) lane.do_adj[k] = lane.df[out_fc][k];
        P::read_across(matrices_[out_fc], W_, w, weights_, u_h_adj, lane.do_adj);
        for (std::size_t k = 0; k < S * O; ++k) o_adj[k] += inner * lane.do_adj[k];
      } else {
        std::fill_n(u_e_adj, S * n, 0.f);
        std::fill_n(u_h_adj, S * n, 0.f);
        std::fill_n(lane.d_z + t * S * gates_, S * gates_, 0.f);
        std::fill_n(lane.d_o + t * S * O, S * O, 0.f);
      }
      for (std::size_t k = 0; k < S * n; ++k) {
        lane.h_adj[k] += lane.dg[out_fc][k];
        lane.e_adj[k] += lane.df[i_fc][k];
        lane.h_next[k] = lane.df[h_fc][k];
      }
      for (Buffer& b : lane.df) b.clear();
      for (Buffer& b : lane.dg) b.clear();

      retreat(lane, out_fc, t, {o_adj, lane.h + (t + 1) * S * n, lane.d_o + t * S * O, u_h_adj},
              lane.h_adj);
      for (std::size_t s = 0; s < S; ++s) {
        const float* gate = z + s * gates_;
        const float* g_adj = lane.gates_adj + s * gates_;
        float* out = z_adj + s * gates_;
        for (std::size_t k = 0; k < n; ++k) {
          const float dh = lane.h_adj[s * n + k];
          if (!case_.lstm) {
            out[k] = gate[k] > 0 ? dh + g_adj[k] : 0;
            continue;
          }
          const float i = gate[k], f = gate[n + k], g = gate[2 * n + k], o = gate[3 * n + k];
          const float c_before = lane.c[(t * S + s) * n + k];
          const float tanh_c = symmetric(lane.c[((t + 1) * S + s) * n + k]);
          float& c_adj = lane.c_adj[s * n + k];
          const float dc = c_adj + dh * o * d_symmetric(tanh_c);
          out[k] = (g_adj[k] + dc * g) * d_unit(i);
          out[n + k] = (g_adj[n + k] + dc * c_before) * d_unit(f);
          out[2 * n + k] = (g_adj[2 * n + k] + dc * i) * d_symmetric(g);
          out[3 * n + k] = (g_adj[3 * n + k] + dh * tanh_c) * d_unit(o);
          c_adj = dc * f + lane.c_before_adj[s * n + k];
        }
      }
      retreat(lane, i_fc, t, {e, z_adj, u_e_adj, lane.d_z + t * S * gates_}, lane.e_adj);
      retreat(lane, h_fc, t, {lane.h + t * S * n, z_adj, nullptr, nullptr}, lane.h_next);
      for (std::size_t k = 0; k < S * n; ++k) z_in_adj[k] = e[k] > 0 ? lane.e_adj[k] : 0;
      // Its product is the adjoint of x, which nobody wants, but costs little.
      retreat(lane, in_fc, t, {lane.x + t * S * Case::inputs, z_in_adj, nullptr, nullptr},
              lane.gates_adj);
    }
    const std::size_t count = steps_ * S;
    P::outer_products(matrices_[in_fc], lane.x, lane.z_in_adj, count, lane.dW);
    P::outer_products(matrices_[h_fc], lane.h, lane.z_adj, count, lane.dW);
    P::outer_products(matrices_[i_fc], lane.e, lane.z_adj, count, lane.dW);
    P::outer_products(matrices_[out_fc], lane.o_adj, lane.h + S * n, count, lane.dW);
    if (gradient) {
      P::outer_products(matrices_[i_fc], lane.u_e_adj, lane.d_z, count, lane.dW);
      P::outer_products(matrices_[out_fc], lane.d_o, lane.u_h_adj, count, lane.dW);
    }
  }

  struct Uses {
    const float *a1, *b1, *a2, *b2;
  };

  // The uses of step t and the update before it; without one, the product alone.
  void retreat(Lane<P>& lane, std::size_t l, std::size_t t, const Uses& uses,
               float* product) const {
    const Matrix& m = matrices_[l];
    float* w = state(lane, t, true);
    if (t == 0) {
      if (l == i_fc) P::read_across(m, W_, w, weights_, uses.b1, product);
      if (l == out_fc) P::read_down(m, W_, w, weights_, uses.a1, product);
      return;
    }
    const auto [f, g] = factors(lane, l, t - 1);
    const float* before = state(lane, t - 1, true);
    const typename P::Adjoint v{f,       g,       uses.a1,    uses.b1,    uses.a2,
                                uses.b2, product, lane.df[l], lane.dg[l], &lane.keep};
    const bool second = case_.rule == Rule::gradient && l >= i_fc;
    const bool odd = t % 2 != 0;
    const auto pass = [&]<bool Across, bool Second>() {
      before == w ? P::template adjoint<Across, Second, true>(m, A_, W_, w, nullptr, lane.G,
                                                              lane.dA, weights_, odd, eta, rho, v)
                  : P::template adjoint<Across, Second, false>(m, A_, W_, w, before, lane.G,
                                                               lane.dA, weights_, odd, eta, rho, v);
    };
    if (m.across) {
      second ? pass.template operator()<true, true>() : pass.template operator()<true, false>();
    } else {
      second ? pass.template operator()<false, true>() : pass.template operator()<false, false>();
    }
    for (std::size_t i = 0; i < S * m.rows; ++i) {
      lane.rate += static_cast<double>(f[i] * lane.df[l][i]);
      lane.df[l][i] *= eta;
    }
    for (std::size_t j = 0; j < S * m.cols; ++j) lane.dg[l][j] *= eta;
  }

  // Adjoint of the cell's part of `propose`: from dz to u_h, the gates and c.
  void propose_adjoint(Lane<P>& lane, std::size_t t, const float* dz_adj) const {
    const std::size_t n = n_;
    for (std::size_t s = 0; s < S; ++s) {
      const float* z = lane.gates_ + (t * S + s) * gates_;
      const float* Z = dz_adj + s * gates_;
      const float* u = lane.u_h + (t * S + s) * n;
      float* u_adj = lane.u_h_adj + (t * S + s) * n;
      float* g_adj = lane.gates_adj + s * gates_;
      for (std::size_t k = 0; k < n; ++k) {
        if (!case_.lstm) {
          u_adj[k] = z[k] > 0 ? Z[k] : 0;
          continue;
        }
        const float i = z[k], f = z[n + k], g = z[2 * n + k], o = z[3 * n + k];
        const float c_before = lane.c[(t * S + s) * n + k], c = lane.c[((t + 1) * S + s) * n + k];
        const float tanh_c = symmetric(c), inside = d_symmetric(tanh_c);
        const float dc = u[k] * o * inside;
        const float dc_adj = Z[k] * g * d_unit(i) + Z[n + k] * c_before * d_unit(f) +
                             Z[2 * n + k] * i * d_symmetric(g);
        u_adj[k] = Z[3 * n + k] * tanh_c * d_unit(o) + dc_adj * o * inside;
        g_adj[k] += Z[2 * n + k] * dc * d_symmetric(g);
        g_adj[2 * n + k] += Z[k] * dc * d_unit(i);
        g_adj[3 * n + k] += dc_adj * u[k] * inside;
        lane.c_adj[s * n + k] += Z[3 * n + k] * u[k] * d_unit(o) * inside;
        lane.c_before_adj[s * n + k] = Z[n + k] * dc * d_unit(f);
      }
    }
  }

  Case case_;
  naive::Settings settings_;
  naive::Layout layout_;
  std::size_t n_, gates_, steps_, batch_;
  std::vector<Matrix> matrices_;
  std::size_t weights_ = 0;
  Buffer A_, W_, dA_, dW_;
  Lanes train_lanes_, forward_lanes_;
};

template <int N>
std::unique_ptr<Limit> make_limit(const Case& c, const naive::Numbers& parameters, int samples) {
  if (samples == 2) return std::make_unique<Network<Passes<2, N>>>(c, parameters);
  return std::make_unique<Network<Passes<1, N>>>(c, parameters);
}

}  // namespace

naive::Settings limit_settings(const Case& c) {
  naive::Settings s;
  s.lstm = c.lstm;
  s.rule = c.rule;
  s.hidden = static_cast<std::size_t>(c.hidden);
  s.extra = Case::extra + 1;  // the output that would modulate is there, but does not
  s.modulation = false;
  s.eta0 = static_cast<double>(eta);
  s.decay0 = 1 - static_cast<double>(rho);
  s.max_norm = 1e30;
  s.piecewise_gates = true;
  return s;
}

std::unique_ptr<Limit> make_limit(const Case& c, const naive::Numbers& parameters, bool train) {
  if (c.rule == Rule::none || (c.hidden != 64 && c.hidden % 128 != 0)) {
    throw std::invalid_argument(
        "make_limit: expected a plastic rule and hidden 64 or a multiple of 128");
  }
  // Where a sample's weights outgrow the second-level cache, more samples share each read of A and
  // W.
  const bool large = c.lstm || c.hidden > 128;
  int samples = train && !large ? 1 : 2;
  if (c.batch % 2 != 0) samples = 1;
  constexpr int sixty_four = 64 / lanes;
  return c.hidden == 64 ? make_limit<sixty_four>(c, parameters, samples)
                        : make_limit<2 * sixty_four>(c, parameters, samples);
}

}  // namespace bench
