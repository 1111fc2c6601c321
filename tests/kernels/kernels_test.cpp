#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "plastic/kernels/fast_weights_adjoint.hpp"
#include "plastic/kernels/matrix_products.hpp"
#include "plastic/kernels/nonzero_rows.hpp"
#include "support/gradcheck.hpp"

using namespace plastic;
using namespace plastic::testing;
namespace kernels = plastic::detail::kernels;

namespace {

/// Numbers at a chosen distance from alignment between two fences that must stay as they are.
template <class Scalar>
class Fenced {
 public:
  Fenced(Index size, Index offset, std::uint64_t seed, double low = -1, double high = 1)
      : memory_(static_cast<std::size_t>(2 * fence + 64 + size), mark), size_(size) {
    auto address = reinterpret_cast<std::uintptr_t>(memory_.data() + fence);
    first_ = fence;
    while (address % 64 != 0) address += sizeof(Scalar), ++first_;
    first_ += offset;
    Eigen::Map<Vector<Scalar>>(data(), size) = random_matrix<Scalar>(size, 1, seed, low, high);
  }
  Scalar* data() { return memory_.data() + first_; }
  double operator[](Index i) const {
    return static_cast<double>(memory_[static_cast<std::size_t>(first_ + i)]);
  }
  bool intact() const {
    Index marks = 0;
    for (Index i = 0; i < static_cast<Index>(memory_.size()); ++i) {
      if (i >= first_ && i < first_ + size_) continue;
      if (memory_[static_cast<std::size_t>(i)] != mark) return false;
      ++marks;
    }
    return marks == static_cast<Index>(memory_.size()) - size_;
  }

 private:
  static constexpr Index fence = 64;
  static constexpr Scalar mark = 77;
  std::vector<Scalar> memory_;
  Index size_;
  Index first_;
};

/// A naive sum and the size of its terms.
struct Total {
  double value = 0;
  double magnitude = 0;
  void add(double term) {
    value += term;
    magnitude += std::abs(term);
  }
};

/// The worst |got - total| as a part of k eps magnitude.
template <class Scalar>
struct Worst {
  double part = 0;
  void meet(double got, const Total& sum, Index terms) {
    const double allowed = rounding<Scalar>(4 + static_cast<double>(terms), sum.magnitude);
    const double error = std::abs(got - sum.value);
    if (error != 0 && !(error / allowed <= part)) part = error / allowed;
  }
};

constexpr std::array<Index, 17> column_counts{1,  2,  3,  5,  7,   8,   9,   15, 16,
                                              17, 31, 33, 64, 127, 128, 129, 130};
constexpr std::array<Index, 4> row_counts{1, 2, 3, 17};
constexpr std::array<Index, 3> offsets{0, 1, 3};

template <class F>
void for_kernel_sizes(F f) {
  for (const Index cols : column_counts) {
    for (const Index rows : row_counts) {
      for (const Index offset : offsets) {
        INFO(rows << " rows, " << cols << " columns, " << offset << " off alignment");
        f(rows, cols, offset);
      }
    }
  }
}

template <class Scalar>
struct KernelData {
  KernelData(Index rows, Index cols, Index offset)
      : weight(rows * cols, offset, 1),
        alpha(rows * cols, (offset + 1) % 4, 2),
        v(rows * cols, offset, 3),
        pre(rows, offset, 4),
        post(cols, (offset + 1) % 4, 5),
        x(rows, offset, 6),
        dy(cols, (offset + 2) % 4, 7),
        slow{weight.data(), alpha.data(), rows, cols} {}

  kernels::Update<Scalar> update(kernels::Decay decay) {
    const double keep = decay == kernels::Decay::lazy ? 1 : 0.875;
    return {pre.data(), post.data(), Scalar(0.75), static_cast<Scalar>(keep),
            static_cast<Scalar>(clip)};
  }
  Total updated(Index i, Index j, kernels::Decay decay) const {
    const Index at = i * slow.cols + j;
    Total w;
    w.add((decay == kernels::Decay::lazy ? 1 : 0.875) * v[at]);
    w.add(0.75 * alpha[at] * pre[i] * post[j]);
    if (decay == kernels::Decay::now_and_clip) w.value = std::min(std::max(w.value, -clip), clip);
    return w;
  }

  static constexpr double clip = 0.40625;
  Fenced<Scalar> weight, alpha, v, pre, post, x, dy;
  kernels::SlowMatrices<Scalar> slow;
};

using kernels::Decay, kernels::Sum;
constexpr double scale = 0.625;
constexpr std::array<Decay, 3> decays{Decay::lazy, Decay::now, Decay::now_and_clip};

/// All rows, or all but every third.
std::vector<std::int32_t> chosen_rows(Index rows, bool all) {
  std::vector<std::int32_t> chosen;
  for (std::int32_t i = 0; i < rows; ++i) {
    if (all || i % 3 != 1) chosen.push_back(i);
  }
  return chosen;
}

/// Calls f with the kinds of sum and decay as constants.
template <class F>
void with_kind(Sum sum, Decay decay, F&& f) {
  const auto run = [&]<Sum s>() {
    if (decay == Decay::lazy) f.template operator()<s, Decay::lazy>();
    if (decay == Decay::now) f.template operator()<s, Decay::now>();
    if (decay == Decay::now_and_clip) f.template operator()<s, Decay::now_and_clip>();
  };
  if (sum == Sum::none) run.template operator()<Sum::none>();
  if (sum == Sum::over_rows) run.template operator()<Sum::over_rows>();
  if (sum == Sum::over_columns) run.template operator()<Sum::over_columns>();
}

}  // namespace

TEMPLATE_TEST_CASE("The update and its product agree with naive loops at all sizes", "[kernels]",
                   float, double) {
  for_kernel_sizes([](Index rows, Index cols, Index offset) {
    for (const Decay decay : decays) {
      for (const bool in_place : {false, true}) {
        for (const Sum sum : {Sum::none, Sum::over_rows, Sum::over_columns}) {
          for (const bool all : {true, false}) {
            INFO("decay " << static_cast<int>(decay) << ", in place " << in_place << ", sum "
                          << static_cast<int>(sum) << ", all rows " << all);
            const bool by_columns = sum != Sum::over_columns;
            KernelData<TestType> data(rows, cols, offset);
            const KernelData<TestType> before = data;
            Fenced<TestType> elsewhere(rows * cols, (offset + 1) % 4, 8);
            Fenced<TestType> y(by_columns ? cols : rows, (offset + 3) % 4, 9);
            const Fenced<TestType> y_before = y;
            Fenced<TestType>& to = in_place ? data.v : elsewhere;
            const Fenced<TestType> to_before = to;
            const std::vector<std::int32_t> chosen = chosen_rows(rows, all);
            with_kind(sum, decay, [&]<Sum S, Decay D>() {
              kernels::update_product<S, D>(data.slow, chosen, data.v.data(), to.data(),
                                            data.update(decay), TestType(scale),
                                            by_columns ? data.x.data() : data.dy.data(), y.data());
            });
            std::vector<Total> out(static_cast<std::size_t>(by_columns ? cols : rows));
            for (std::size_t k = 0; k < out.size(); ++k) {
              out[k].add(y_before[static_cast<Index>(k)]);
            }
            Worst<TestType> worst;
            for (Index j = 0; j < cols; ++j) {
              for (const std::int32_t i : chosen) {
                const Total v = before.updated(i, j, decay);
                worst.meet(to[i * cols + j], v, 1);
                if (sum == Sum::none) continue;
                const double x = by_columns ? before.x[i] : before.dy[j];
                Total& total = out[static_cast<std::size_t>(by_columns ? j : i)];
                total.add(x * before.weight[i * cols + j]);
                total.add(x * scale * v.value);
                total.magnitude += std::abs(x) * v.magnitude;
              }
            }
            for (std::size_t k = 0; k < out.size(); ++k) {
              worst.meet(y[static_cast<Index>(k)], out[k],
                         sum == Sum::none ? 1
                         : by_columns     ? rows
                                          : cols);
            }
            CHECK(worst.part <= 1);
            CHECK((to.intact() && y.intact() && data.v.intact()));
            Index changed = 0;
            for (Index i = 0; i < rows; ++i) {
              const bool silent = std::find(chosen.begin(), chosen.end(), i) == chosen.end();
              for (Index k = i * cols; k < (i + 1) * cols; ++k) {
                if (!in_place) changed += data.v[k] != before.v[k];
                if (silent) changed += to[k] != to_before[k];
              }
            }
            CHECK(changed == 0);
          }
        }
      }
    }
  });
}

TEMPLATE_TEST_CASE("The products agree with naive loops at all sizes", "[kernels]", float, double) {
  for_kernel_sizes([](Index rows, Index cols, Index offset) {
    for (const bool all : {true, false}) {
      INFO("all rows " << all);
      KernelData<TestType> data(rows, cols, offset);
      const std::vector<std::int32_t> chosen = chosen_rows(rows, all);
      Fenced<TestType> y(cols, (offset + 1) % 4, 8);
      Fenced<TestType> u(rows, (offset + 2) % 4, 9);
      std::vector<Total> y_total(static_cast<std::size_t>(cols));
      std::vector<Total> u_total(static_cast<std::size_t>(rows));
      Total of_scale;
      for (Index j = 0; j < cols; ++j) y_total[static_cast<std::size_t>(j)].add(y[j]);
      for (Index i = 0; i < rows; ++i) u_total[static_cast<std::size_t>(i)].add(u[i]);
      for (const std::int32_t i : chosen) {
        for (Index j = 0; j < cols; ++j) {
          for (const double w : {data.weight[i * cols + j], scale * data.v[i * cols + j]}) {
            y_total[static_cast<std::size_t>(j)].add(data.x[i] * w);
            u_total[static_cast<std::size_t>(i)].add(w * data.dy[j]);
          }
          of_scale.add(data.x[i] * data.v[i * cols + j] * data.dy[j]);
        }
      }
      Fenced<TestType> y_again = y, u_again = u;
      Worst<TestType> worst;
      const auto run = [&]<Sum S, bool ScaleAdjoint>(TestType* x, Fenced<TestType>& to,
                                                     TestType* d) {
        const TestType of = kernels::fast_product<S, ScaleAdjoint>(
            data.slow, chosen, data.v.data(), TestType(scale), x, to.data(), d);
        if (ScaleAdjoint) worst.meet(static_cast<double>(of), of_scale, rows * cols);
        if (!ScaleAdjoint) CHECK(of == 0);
      };
      TestType* const none = nullptr;
      run.template operator()<Sum::over_rows, false>(data.x.data(), y, none);
      run.template operator()<Sum::over_columns, false>(data.dy.data(), u, none);
      run.template operator()<Sum::over_rows, true>(data.x.data(), y_again, data.dy.data());
      run.template operator()<Sum::over_columns, true>(data.dy.data(), u_again, data.x.data());
      for (Index j = 0; j < cols; ++j) {
        worst.meet(y[j], y_total[static_cast<std::size_t>(j)], rows);
        CHECK(y[j] == y_again[j]);
      }
      for (Index i = 0; i < rows; ++i) {
        worst.meet(u[i], u_total[static_cast<std::size_t>(i)], cols);
        CHECK(u[i] == u_again[i]);
      }
      CHECK(worst.part <= 1);
      CHECK((y.intact() && u.intact()));
    }
  });
}

TEMPLATE_TEST_CASE("The adjoint of the update agrees with naive loops at all sizes", "[kernels]",
                   float, double) {
  for_kernel_sizes([](Index rows, Index cols, Index offset) {
    for (const Decay decay : decays) {
      for (const Sum sum : {Sum::over_rows, Sum::over_columns}) {
        for (const bool second : {false, true}) {
          for (const bool all : {true, false}) {
            INFO("decay " << static_cast<int>(decay) << ", sum " << static_cast<int>(sum)
                          << ", second use " << second << ", all rows " << all);
            const bool lazy = decay == Decay::lazy;
            const bool over_rows = sum == Sum::over_rows;
            const double s = lazy ? scale : 1;
            const std::vector<std::int32_t> chosen = chosen_rows(rows, all);
            KernelData<TestType> d(rows, cols, offset);
            Fenced<TestType> second_x(rows, offset, 10), second_dy(cols, (offset + 1) % 4, 11);
            Fenced<TestType> g(rows * cols, (offset + 2) % 4, 12);
            Fenced<TestType> a(rows * cols, (offset + 3) % 4, 13);
            Fenced<TestType> input(over_rows ? rows : cols, offset, 14);
            Fenced<TestType> pre(rows, (offset + 1) % 4, 15), post(cols, offset, 16);
            Fenced<TestType> after = d.v, back(rows * cols, (offset + 1) % 4, 17);
            const Fenced<TestType> g0 = g, a0 = a, input0 = input, pre0 = pre, post0 = post,
                                   back0 = back;
            kernels::UpdateAdjoint<TestType> adjoint{
                g.data(), a.data(), input.data(), pre.data(), post.data(), 5, 5};
            const kernels::OuterProduct<TestType> use{d.x.data(), d.dy.data()};
            const kernels::OuterProduct<TestType> other{second_x.data(), second_dy.data()};
            const kernels::Update<TestType> update = d.update(decay);
            const auto pass = [&]<Sum S, bool Second>() {
              const auto two = Second ? other : kernels::OuterProduct<TestType>{};
              if (lazy) {
                kernels::update_product<Sum::none, Decay::lazy, TestType>(
                    d.slow, chosen, d.v.data(), after.data(), update, 1, nullptr, nullptr);
                kernels::lazy_update_adjoint<S, Second>(d.slow, chosen, after.data(), back.data(),
                                                        update, TestType(scale), use, two, adjoint);
              } else if (decay == Decay::now) {
                kernels::decayed_update_adjoint<S, Second, false>(d.slow, chosen, d.v.data(),
                                                                  update, use, two, adjoint);
              } else {
                kernels::decayed_update_adjoint<S, Second, true>(d.slow, chosen, d.v.data(), update,
                                                                 use, two, adjoint);
              }
            };
            const auto pass_sum = [&]<Sum S>() {
              second ? pass.template operator()<S, true>() : pass.template operator()<S, false>();
            };
            over_rows ? pass_sum.template operator()<Sum::over_rows>()
                      : pass_sum.template operator()<Sum::over_columns>();

            Worst<TestType> worst;
            Total keep, of_scale;
            keep.add(5);
            of_scale.add(5);
            const auto totals = [](const Fenced<TestType>& start, Index count) {
              std::vector<Total> all_of_them(static_cast<std::size_t>(count));
              for (Index k = 0; k < count; ++k) {
                all_of_them[static_cast<std::size_t>(k)].add(start[k]);
              }
              return all_of_them;
            };
            std::vector<Total> post_total = totals(post0, cols), pre_total = totals(pre0, rows);
            std::vector<Total> input_total = totals(input0, over_rows ? rows : cols);
            Index touched = 0;
            for (Index i = 0; i < rows; ++i) {
              const bool silent = std::find(chosen.begin(), chosen.end(), i) == chosen.end();
              for (Index j = 0; j < cols; ++j) {
                const Index at = i * cols + j;
                if (silent) {
                  touched += g[at] != g0[at] || a[at] != a0[at] || back[at] != back0[at];
                  continue;
                }
                const Total v = d.updated(i, j, decay);
                Total slope;
                slope.add(g0[at]);
                slope.add(s * d.x[i] * d.dy[j]);
                if (second) slope.add(s * second_x[i] * second_dy[j]);
                if (decay == Decay::now_and_clip &&
                    std::abs(d.updated(i, j, Decay::now).value) > KernelData<TestType>::clip) {
                  slope = {};
                }
                const auto spread = [&](Total& to, double factor) {
                  to.value += factor * slope.value;
                  to.magnitude += std::abs(factor) * slope.magnitude;
                };
                Total& of_input = input_total[static_cast<std::size_t>(over_rows ? i : j)];
                const double factor = over_rows ? d.dy[j] : d.x[i];
                of_input.add(d.weight[at] * factor);
                of_input.add(s * v.value * factor);
                of_input.magnitude += std::abs(factor) * v.magnitude;
                of_scale.add(d.x[i] * v.value * d.dy[j]);
                of_scale.magnitude += std::abs(d.x[i] * d.dy[j]) * v.magnitude;
                spread(keep, d.v[at]);
                spread(pre_total[static_cast<std::size_t>(i)], d.alpha[at] * d.post[j]);
                spread(post_total[static_cast<std::size_t>(j)], d.alpha[at] * d.pre[i]);
                Total of_alpha, of_v;
                of_alpha.add(a0[at]);
                spread(of_alpha, 0.75 * d.pre[i] * d.post[j]);
                spread(of_v, lazy ? 1 : 0.875);
                worst.meet(a[at], of_alpha, 1);
                worst.meet(g[at], of_v, 1);
                if (!lazy) continue;
                Total found;
                found.add(d.v[at]);
                found.magnitude += v.magnitude;
                worst.meet(back[at], found, 1);
              }
            }
            CHECK(touched == 0);
            for (Index i = 0; i < rows; ++i) {
              worst.meet(pre[i], pre_total[static_cast<std::size_t>(i)], cols);
            }
            for (Index j = 0; j < cols; ++j) {
              worst.meet(post[j], post_total[static_cast<std::size_t>(j)], rows);
            }
            for (std::size_t k = 0; k < input_total.size(); ++k) {
              worst.meet(input[static_cast<Index>(k)], input_total[k], over_rows ? cols : rows);
            }
            worst.meet(lazy ? adjoint.scale : adjoint.keep, lazy ? of_scale : keep, rows * cols);
            CHECK((lazy ? adjoint.keep : adjoint.scale) == 5);
            CHECK(worst.part <= 1);
            CHECK((g.intact() && a.intact() && input.intact() && pre.intact() && post.intact() &&
                   back.intact()));
          }
        }
      }
    }
  });
}

TEMPLATE_TEST_CASE("Going back over a lazy update in place finds the same", "[kernels]", float,
                   double) {
  for_kernel_sizes([](Index rows, Index cols, Index offset) {
    const std::vector<std::int32_t> chosen = chosen_rows(rows, false);
    const auto run = [&](bool in_place) {
      KernelData<TestType> d(rows, cols, offset);
      Fenced<TestType> back = d.v, g(rows * cols, offset, 12), a(rows * cols, offset, 13);
      Fenced<TestType> input(rows, offset, 14), pre(rows, offset, 15), post(cols, offset, 16);
      kernels::UpdateAdjoint<TestType> adjoint{g.data(), a.data(), input.data(), pre.data(),
                                               post.data()};
      TestType* to = in_place ? d.v.data() : back.data();
      kernels::lazy_update_adjoint<Sum::over_rows, false>(d.slow, chosen, d.v.data(), to,
                                                          d.update(Decay::lazy), TestType(scale),
                                                          {d.x.data(), d.dy.data()}, {}, adjoint);
      return Vector<TestType>(Eigen::Map<Vector<TestType>>(to, rows * cols));
    };
    CHECK(run(true) == run(false));
  });
}

TEMPLATE_TEST_CASE("The rows that are not silent are found, at all sizes", "[kernels]", float,
                   double) {
  constexpr Index most = 70;
  const TestType nan = std::numeric_limits<TestType>::quiet_NaN();
  const TestType tiny = std::numeric_limits<TestType>::denorm_min();
  for (Index n = 1; n <= most; ++n) {
    for (const int density : {0, 1, 2, 5, 100}) {
      INFO(n << " rows, " << density);
      std::vector<TestType> a(static_cast<std::size_t>(n)), b = a, c = a;
      for (std::size_t i = 0; i < a.size(); ++i) {
        const auto hash = static_cast<int>((i * 7919 + static_cast<std::size_t>(density)) % 11);
        a[i] = hash < density ? TestType(1) : TestType(0);
        b[i] = hash == 7 && density > 1 ? nan : TestType(-0.0);
        c[i] = hash == 9 && density > 1 ? tiny : TestType(0);
      }
      std::vector<std::int32_t> of_a, of_all;
      for (std::int32_t i = 0; i < n; ++i) {
        const auto k = static_cast<std::size_t>(i);
        if (a[k] != 0) of_a.push_back(i);
        if (a[k] != 0 || b[k] != 0 || c[k] != 0) of_all.push_back(i);
      }
      std::vector<std::int32_t> found(static_cast<std::size_t>(n + kernels::nonzero_slack), -1);
      const auto check = [&](Index count, const std::vector<std::int32_t>& expected) {
        REQUIRE(count == static_cast<Index>(expected.size()));
        CHECK(std::equal(expected.begin(), expected.end(), found.begin()));
      };
      const TestType* alone = a.data();
      check(kernels::nonzero_rows(n, found.data(), alone), of_a);
      const TestType *first = a.data(), *second = b.data(), *third = c.data();
      check(kernels::nonzero_rows(n, found.data(), first, second, third), of_all);
      check(kernels::nonzero_rows(n, found.data(), first, kernels::Fading<TestType>{third}), of_a);
    }
  }
}

TEMPLATE_TEST_CASE("The products of slow weights agree with naive loops at all sizes", "[kernels]",
                   float, double) {
  constexpr std::array<Index, 11> sizes{1, 2, 3, 5, 8, 9, 16, 17, 33, 49, 130};
  for (const Index rows : sizes) {
    for (const Index depth : {Index{1}, Index{7}, Index{16}, Index{17}, Index{64}}) {
      for (const Index cols : {Index{1}, Index{2}, Index{4}, Index{8}, Index{9}, Index{13}}) {
        for (const Index offset : {Index{0}, Index{3}}) {
          INFO(rows << " x " << depth << " times " << depth << " x " << cols << ", " << offset
                    << " off alignment");
          Fenced<TestType> a(rows * depth, offset, 1);
          Fenced<TestType> b(depth * cols, (offset + 1) % 4, 2);
          Fenced<TestType> c(rows * cols, (offset + 2) % 4, 3);
          const Fenced<TestType> before = c;
          Fenced<TestType> by_rows = c, transposed = c;
          kernels::add_product<TestType>(c.data(), a.data(), {b.data(), 1, depth}, rows, depth,
                                         cols);
          kernels::add_product<TestType>(by_rows.data(), a.data(), {b.data(), cols, 1}, rows, depth,
                                         cols);
          // Read as depth x rows.
          kernels::add_transposed_product(transposed.data(), a.data(), b.data(), rows, depth, cols);
          Worst<TestType> worst;
          for (Index i = 0; i < rows; ++i) {
            for (Index j = 0; j < cols; ++j) {
              const double start = before[j * rows + i];
              Total plain{start, std::abs(start)}, strided = plain, turned = plain;
              for (Index k = 0; k < depth; ++k) {
                plain.add(a[k * rows + i] * b[j * depth + k]);
                strided.add(a[k * rows + i] * b[k * cols + j]);
                turned.add(a[i * depth + k] * b[j * depth + k]);
              }
              worst.meet(c[j * rows + i], plain, depth);
              worst.meet(by_rows[j * rows + i], strided, depth);
              worst.meet(transposed[j * rows + i], turned, depth);
            }
          }
          CHECK(worst.part <= 1);
          CHECK((c.intact() && by_rows.intact() && transposed.intact()));
        }
      }
    }
  }
}

TEMPLATE_TEST_CASE("Fast weights that fade away become zero and no denormal numbers", "[kernels]",
                   float, double) {
  constexpr Index cols = 37;
  const TestType normal = std::numeric_limits<TestType>::min();
  Fenced<TestType> w(cols, 1, 1), zero(cols, 0, 2, 0, 0), dy(cols, 2, 3, 0, 0), alpha = zero;
  const TestType nothing = 0;
  const std::vector<std::int32_t> row{0};
  const kernels::SlowMatrices<TestType> slow{zero.data(), zero.data(), 1, cols};
  const kernels::Update<TestType> decay{&nothing, zero.data(), 0, TestType(0.5), 1};
  const auto subnormal = [&](Fenced<TestType>& values) {
    Index count = 0;
    for (Index j = 0; j < cols; ++j) {
      const TestType v = std::abs(values.data()[j]);
      count += v > 0 && v < normal;
    }
    return count;
  };
  const auto all_zero = [&](Fenced<TestType>& values) {
    return Eigen::Map<const Vector<TestType>>(values.data(), cols).isZero(0);
  };
  Fenced<TestType> g = w;
  Index found = 0;
  double expected = 1;
  for (int t = 0; t < 1100; ++t) {
    const double first = w[0], first_adjoint = g[0];
    kernels::update_product<Sum::none, Decay::now, TestType>(slow, row, w.data(), w.data(), decay,
                                                             1, nullptr, nullptr);
    TestType input = 0, pre_sum = 0;
    kernels::UpdateAdjoint<TestType> adjoint{g.data(), alpha.data(), &input, &pre_sum, dy.data()};
    kernels::decayed_update_adjoint<Sum::over_rows, false, false>(
        slow, row, zero.data(), decay, {&nothing, zero.data()}, {}, adjoint);
    found += subnormal(w) + subnormal(g);
    expected /= 2;
    if (expected > (sizeof(TestType) == 4 ? 0x1p-70 : 0x1p-900)) {  // no bit is lost before
      found += w[0] != first / 2 || g[0] != first_adjoint / 2;
    }
  }
  CHECK(found == 0);
  CHECK(all_zero(w));
  CHECK(all_zero(g));
}

TEMPLATE_TEST_CASE("Fast weights that fade slowly leave no denormal products", "[kernels]", float,
                   double) {
  constexpr Index cols = 37;
  // Their products with coefficients A down to 2^-20 are normal numbers.
  const TestType least = std::ldexp(std::numeric_limits<TestType>::min(), 20);
  const TestType nothing = 0;
  const std::vector<std::int32_t> row{0};
  for (const double keep : {0.9, 0.99, 0.7}) {
    Fenced<TestType> w(cols, 1, 1), zero(cols, 0, 2, 0, 0);
    const kernels::SlowMatrices<TestType> slow{zero.data(), zero.data(), 1, cols};
    const kernels::Update<TestType> decay{&nothing, zero.data(), 0, static_cast<TestType>(keep), 1};
    Index tiny = 0;
    for (int t = 0; t < 80000; ++t) {
      kernels::update_product<Sum::none, Decay::now, TestType>(slow, row, w.data(), w.data(), decay,
                                                               1, nullptr, nullptr);
      for (Index j = 0; j < cols; ++j) {
        const TestType size = std::abs(w.data()[j]);
        tiny += size > 0 && size < least;
      }
    }
    INFO("keep " << keep);
    CHECK(tiny == 0);
    CHECK(Eigen::Map<const Vector<TestType>>(w.data(), cols).isZero(0));
  }
}

TEMPLATE_TEST_CASE("Fast weights and adjoints that are not a number stay so", "[kernels]", float,
                   double) {
  constexpr Index cols = 37;
  const TestType nan = std::numeric_limits<TestType>::quiet_NaN();
  const TestType nothing = 0;
  const std::vector<std::int32_t> row{0};
  Fenced<TestType> zero(cols, 0, 1, 0, 0), sums = zero, alpha = zero;
  const kernels::SlowMatrices<TestType> slow{zero.data(), zero.data(), 1, cols};
  for (Index j = 0; j < cols; ++j) {
    Fenced<TestType> w = zero, g = zero;
    w.data()[j] = g.data()[j] = nan;
    const kernels::Update<TestType> decay{&nothing, zero.data(), 0, TestType(0.5), 1};
    kernels::update_product<Sum::none, Decay::now, TestType>(slow, row, w.data(), w.data(), decay,
                                                             1, nullptr, nullptr);
    TestType input = 0, pre_sum = 0;
    kernels::UpdateAdjoint<TestType> adjoint{g.data(), alpha.data(), &input, &pre_sum, sums.data()};
    kernels::decayed_update_adjoint<Sum::over_rows, false, false>(
        slow, row, zero.data(), decay, {&nothing, zero.data()}, {}, adjoint);
    for (Index k = 0; k < cols; ++k) {
      CHECK(std::isnan(w[k]) == (k == j));
      CHECK(std::isnan(g[k]) == (k == j));
    }
  }
}
