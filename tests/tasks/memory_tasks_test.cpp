#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "plastic/cells/compiled.hpp"
#include "plastic/optim/adamw.hpp"
#include "plastic/rules/hebbian.hpp"
#include "plastic/tasks/associative_recall.hpp"
#include "plastic/tasks/associative_retrieval.hpp"
#include "plastic/tasks/copy.hpp"
#include "plastic/tasks/familiarity.hpp"
#include "plastic/tasks/key_value_retrieval.hpp"
#include "plastic/tasks/pattern_completion.hpp"
#include "plastic/tasks/priority_sort.hpp"
#include "plastic/tasks/task_mix.hpp"
#include "plastic/train/trainer.hpp"
#include "support/errors.hpp"
#include "support/tasks.hpp"

namespace {

using namespace plastic;
using plastic::testing::for_each_memory_task;
using plastic::testing::generate;
using plastic::testing::rejection;
using plastic::testing::stream;
using plastic::testing::too_many;

// The row that is 1 in a column that is 0 elsewhere; -1 if there is none such.
template <class Column>
Index one_hot(const Column& column) {
  Index row = 0;
  const auto largest = column.maxCoeff(&row);
  const bool valid = largest == 1 && column.sum() == 1 && column.cwiseAbs().sum() == 1;
  return valid ? row : -1;
}

template <class Column>
bool is_signs(const Column& column) {
  return (column.array().abs() == 1).all();
}

template <class Column>
bool is_bits(const Column& column) {
  return (column.array() == 0 || column.array() == 1).all();
}

// Whether `ones` of `trials` agree with a probability: within five standard deviations.
bool agrees(double ones, double trials, double probability) {
  const double deviation = std::sqrt(trials * probability * (1 - probability));
  return std::abs(ones - trials * probability) <= 5 * deviation;
}

bool all_agree(const std::vector<double>& counts) {
  const double trials = std::accumulate(counts.begin(), counts.end(), 0.0);
  return std::all_of(counts.begin(), counts.end(), [&](double count) {
    return agrees(count, trials, 1 / static_cast<double>(counts.size()));
  });
}

}  // namespace

TEST_CASE("The memory tasks have the published sizes by default", "[tasks][memory_tasks]") {
  const PatternCompletion completion;
  CHECK(completion.steps() == 106);
  CHECK(completion.inputs() == 1000);
  CHECK(completion.outputs() == 1000);

  const KeyValueRetrieval repeats({.keys = 20}), distinct({.keys = 60, .repeats = false});
  CHECK(repeats.options().pairs == 40);
  CHECK(repeats.steps() == 41);
  CHECK(repeats.inputs() == 41);
  CHECK(repeats.outputs() == 20);
  CHECK(distinct.options().pairs == 60);
  CHECK(distinct.steps() == 61);

  const AssociativeRetrieval retrieval;
  CHECK(retrieval.steps() == 11);
  CHECK(retrieval.inputs() == 37);
  CHECK(retrieval.outputs() == 10);

  const Familiarity familiarity;
  CHECK(familiarity.steps() == 200);
  CHECK(familiarity.inputs() == 100);
  CHECK(familiarity.outputs() == 1);

  const Copy copy;
  CHECK(copy.steps() == 201);
  CHECK(copy.inputs() == 11);
  CHECK(copy.outputs() == 10);

  const AssociativeRecall recall;
  CHECK(recall.steps() == 32);
  CHECK(recall.inputs() == 8);
  CHECK(recall.outputs() == 6);

  const PrioritySort sort;
  CHECK(sort.steps() == 37);
  CHECK(sort.inputs() == 10);
  CHECK(sort.outputs() == 8);
}

TEMPLATE_TEST_CASE(
    "A memory task fills matrices of its sizes, and each sample has a step that counts",
    "[tasks][memory_tasks]", float, double) {
  for_each_memory_task([](const auto& task, const char* name) {
    INFO(name);
    const Index samples = 6;
    Episodes<TestType> e;
    e.set_zero(2, 3, 4, 5);
    e.queries.setOnes(1, 20);
    e.lengths.assign(5, 4);
    task.generate(stream, 3, 0, samples, e);
    const Index columns = task.steps() * samples;
    REQUIRE(e.inputs.rows() == task.inputs());
    REQUIRE(e.inputs.cols() == columns);
    REQUIRE(e.targets.rows() == task.outputs());
    REQUIRE(e.targets.cols() == columns);
    REQUIRE(e.weights.rows() == 1);
    REQUIRE(e.weights.cols() == columns);
    CHECK(e.queries.size() == 0);
    CHECK(is_bits(e.weights));
    const bool ragged = is_ragged<std::decay_t<decltype(task)>, TestType>;
    CHECK(e.lengths.size() == (ragged ? 6 : 0));
    for (Index s = 0; s < samples; ++s) {
      TestType sum = 0;
      for (Index t = 0; t < task.steps(); ++t) sum += e.weights(0, t * samples + s);
      CHECK(sum > 0);
    }
  });
}

TEST_CASE("What different samples and batches of a memory task show is uncorrelated",
          "[tasks][memory_tasks]") {
  for_each_memory_task([](const auto& task, const char* name) {
    INFO(name);
    const Index samples = 3000;
    // The second step, as the first of a recall is a delimiter.
    const auto shown = [&](std::uint64_t batch, Index first) {
      const Index step = task.steps() > 3 ? 1 : 0;
      Matrix<double> x =
          generate<double>(task, batch, first, samples).inputs.middleCols(step * samples, samples);
      const Vector<double> means = x.rowwise().mean();
      x.colwise() -= means;
      return x;
    };
    const Matrix<double> base = shown(0, 0);
    REQUIRE(base.norm() > 0);
    const auto correlation = [&](const Matrix<double>& other) {
      return std::abs(base.cwiseProduct(other).sum()) / (base.norm() * other.norm());
    };
    const double bound = 5 / std::sqrt(static_cast<double>(samples));
    CHECK(correlation(shown(1, 0)) < bound);
    CHECK(correlation(shown(0, samples)) < bound);
    CHECK(correlation(shown(0, 1)) < bound);
  });
}

TEMPLATE_TEST_CASE("Patterns are shown in rounds, then a part of one, and the last step asks",
                   "[tasks][memory_tasks]", float, double) {
  const Index n = 41, patterns = 4, rounds = 3, show = 3, blank = 2, probe = 4, samples = 5;
  const PatternCompletion task({.bits = n,
                                .patterns = patterns,
                                .rounds = rounds,
                                .presentation_steps = show,
                                .blank_steps = blank,
                                .probe_steps = probe,
                                .zeroed = 0.25});
  REQUIRE(task.steps() == rounds * patterns * (show + blank) + probe);
  const Episodes<TestType> e = generate<TestType>(task, 0, 0, samples);
  for (Index s = 0; s < samples; ++s) {
    const auto input = [&](Index t) { return e.inputs.col(t * samples + s); };
    for (Index k = 0; k < rounds * patterns; ++k) {
      const Index start = k * (show + blank);
      REQUIRE(is_signs(input(start)));
      for (Index t = 1; t < show; ++t) REQUIRE(input(start + t) == input(start));
      for (Index t = show; t < show + blank; ++t) REQUIRE(input(start + t).isZero(0));
      // Each round shows each pattern once.
      const Index first_of_round = k - k % patterns;
      Index times = 0;
      for (Index other = 0; other < patterns; ++other) {
        times += input(start) == input((first_of_round + other) * (show + blank));
      }
      CHECK(times == 1);
      Index shown_first = 0;
      for (Index other = 0; other < patterns; ++other) {
        shown_first += input(start) == input(other * (show + blank));
      }
      CHECK(shown_first == 1);
    }
    const Index start = rounds * patterns * (show + blank);
    for (Index t = 1; t < probe; ++t) REQUIRE(input(start + t) == input(start));
    const auto target = e.targets.col((task.steps() - 1) * samples + s);
    REQUIRE(is_signs(target));
    Index zeros = 0, matches = 0;
    for (Index i = 0; i < n; ++i) {
      zeros += input(start)[i] == 0;
      REQUIRE((input(start)[i] == 0 || input(start)[i] == target[i]));
    }
    CHECK(zeros == 10);  // round(0.25 * 41)
    for (Index k = 0; k < patterns; ++k) matches += target == input(k * (show + blank));
    CHECK(matches == 1);
    for (Index t = 0; t < task.steps(); ++t) {
      const bool last = t == task.steps() - 1;
      CHECK(e.weights(0, t * samples + s) == TestType(last));
      if (!last) CHECK(e.targets.col(t * samples + s).isZero(0));
    }
  }
}

TEST_CASE("Bits, order, choice and zeros of a pattern completion are even",
          "[tasks][memory_tasks]") {
  const Index n = 12, patterns = 3, samples = 4000;
  const PatternCompletion task({.bits = n,
                                .patterns = patterns,
                                .rounds = 2,
                                .presentation_steps = 1,
                                .blank_steps = 0,
                                .probe_steps = 1});
  const Episodes<double> e = generate<double>(task, 0, 0, samples);
  const auto first_round = e.inputs.leftCols(patterns * samples).array();
  const auto bits = static_cast<double>(first_round.size());
  CHECK(std::abs(first_round.mean()) < 5 / std::sqrt(bits));
  CHECK(std::abs((first_round.row(0) * first_round.row(1)).mean()) <
        5 / std::sqrt(static_cast<double>(patterns * samples)));
  std::vector<double> place_in_second(9), asked(3), zeroed(static_cast<std::size_t>(n));
  for (Index s = 0; s < samples; ++s) {
    const auto input = [&](Index t) { return e.inputs.col(t * samples + s); };
    if (input(0) == input(1) || input(0) == input(2) || input(1) == input(2)) continue;
    for (Index k = 0; k < 3; ++k) {
      asked[static_cast<std::size_t>(k)] += e.targets.col(6 * samples + s) == input(k);
      for (Index later = 0; later < 3; ++later) {
        place_in_second[static_cast<std::size_t>(3 * k + later)] += input(k) == input(3 + later);
      }
    }
    for (Index i = 0; i < n; ++i) zeroed[static_cast<std::size_t>(i)] += input(6)[i] == 0;
  }
  CHECK(all_agree(place_in_second));
  CHECK(all_agree(asked));
  CHECK(all_agree(zeroed));
}

TEST_CASE("A pattern may be asked for whole or without any bit", "[tasks][memory_tasks]") {
  const auto probe = [](double zeroed) {
    const PatternCompletion task({.bits = 7, .patterns = 2, .zeroed = zeroed});
    const Episodes<double> e = generate<double>(task, 0, 0, 1);
    return Matrix<double>(e.inputs.rightCols(1) - e.targets.rightCols(1));
  };
  CHECK(probe(0).isZero(0));
  CHECK(is_signs(probe(1)));
}

TEST_CASE("Binary cross-entropy's accuracy is the share of a pattern's bits that are right",
          "[tasks][memory_tasks]") {
  Evaluation evaluation(BinaryCrossEntropy::measures);
  Matrix<float> output(4, 1), target(4, 1);
  output << -0.1f, 0.7f, 3, -2;
  target << -1, 1, -1, -1;
  BinaryCrossEntropy().measure(output.col(0), target.col(0), evaluation);
  CHECK(evaluation.measure("accuracy").mean() == 0.75);
}

TEMPLATE_TEST_CASE("Pairs of keys and values come first, then a key that asks for its last value",
                   "[tasks][memory_tasks]", float, double) {
  for (const bool repeats : {true, false}) {
    const Index size = 6, samples = 40;
    const KeyValueRetrieval task({.keys = size, .repeats = repeats});
    const Index pairs = task.options().pairs;
    REQUIRE(pairs == (repeats ? 12 : 6));
    const Episodes<TestType> e = generate<TestType>(task, 0, 0, samples);
    for (Index s = 0; s < samples; ++s) {
      const auto input = [&](Index t) { return e.inputs.col(t * samples + s); };
      const Index asked = one_hot(input(pairs).head(size));
      REQUIRE(asked >= 0);
      CHECK(input(pairs).segment(size, size).isZero(0));
      CHECK(input(pairs)[2 * size] == 1);
      Index answer = -1;
      std::vector<int> keys(static_cast<std::size_t>(size)), values(keys);
      for (Index t = 0; t < pairs; ++t) {
        const Index key = one_hot(input(t).head(size));
        const Index value = one_hot(input(t).segment(size, size));
        REQUIRE(key >= 0);
        REQUIRE(value >= 0);
        CHECK(input(t)[2 * size] == 0);
        CHECK(e.targets.col(t * samples + s).isZero(0));
        CHECK(e.weights(0, t * samples + s) == 0);
        ++keys[static_cast<std::size_t>(key)];
        ++values[static_cast<std::size_t>(value)];
        if (key == asked) answer = value;
      }
      REQUIRE(answer >= 0);
      CHECK(one_hot(e.targets.col(pairs * samples + s)) == answer);
      CHECK(e.weights(0, pairs * samples + s) == 1);
      if (repeats) continue;
      CHECK(keys == std::vector<int>(static_cast<std::size_t>(size), 1));
      CHECK(values == std::vector<int>(static_cast<std::size_t>(size), 1));
    }
  }
}

TEST_CASE("Keys, values and the pair that is asked for are drawn evenly", "[tasks][memory_tasks]") {
  for (const bool repeats : {true, false}) {
    const Index size = 4, pairs = 3, samples = 6000;
    const KeyValueRetrieval task({.keys = size, .pairs = pairs, .repeats = repeats});
    const Episodes<double> e = generate<double>(task, 0, 0, samples);
    // Of each step alone, as pairs without repeats are not independent.
    for (Index t = 0; t < pairs; ++t) {
      std::vector<double> counts(16);
      for (Index s = 0; s < samples; ++s) {
        const auto input = e.inputs.col(t * samples + s);
        ++counts[static_cast<std::size_t>(4 * one_hot(input.head(4)) +
                                          one_hot(input.segment(4, 4)))];
      }
      CHECK(all_agree(counts));
    }
    double first = 0, same_keys = 0;
    for (Index s = 0; s < samples; ++s) {
      const auto key = [&](Index t) { return one_hot(e.inputs.col(t * samples + s).head(4)); };
      first += key(0) == key(pairs);
      same_keys += key(0) == key(1);
    }
    // With repeats the other two of three pairs may have the same key by chance.
    const double others = repeats ? 2.0 / 3 / 4 : 0;
    CHECK(agrees(first, 6000, 1.0 / 3 + others));
    CHECK(agrees(same_keys, 6000, repeats ? 0.25 : 0));
  }
}

TEMPLATE_TEST_CASE("Letters with digits come first, then two question marks and a letter",
                   "[tasks][memory_tasks]", float, double) {
  for (const Index pairs : {1, 4, 26}) {
    const Index samples = 20;
    const AssociativeRetrieval task({.pairs = pairs});
    REQUIRE(task.steps() == 2 * pairs + 3);
    const Episodes<TestType> e = generate<TestType>(task, 0, 0, samples);
    for (Index s = 0; s < samples; ++s) {
      const auto symbol = [&](Index t) { return one_hot(e.inputs.col(t * samples + s)); };
      std::vector<Index> digit_of(26, -1);
      for (Index k = 0; k < pairs; ++k) {
        const Index letter = symbol(2 * k), digit = symbol(2 * k + 1) - 26;
        REQUIRE((letter >= 0 && letter < 26));
        REQUIRE((digit >= 0 && digit < 10));
        REQUIRE(digit_of[static_cast<std::size_t>(letter)] == -1);
        digit_of[static_cast<std::size_t>(letter)] = digit;
      }
      CHECK(symbol(2 * pairs) == 36);
      CHECK(symbol(2 * pairs + 1) == 36);
      const Index asked = symbol(2 * pairs + 2);
      REQUIRE((asked >= 0 && asked < 26));
      REQUIRE(digit_of[static_cast<std::size_t>(asked)] >= 0);
      for (Index t = 0; t < task.steps(); ++t) {
        const bool last = t == task.steps() - 1;
        CHECK(e.weights(0, t * samples + s) == TestType(last));
        if (!last) CHECK(e.targets.col(t * samples + s).isZero(0));
      }
      CHECK(one_hot(e.targets.col((2 * pairs + 2) * samples + s)) ==
            digit_of[static_cast<std::size_t>(asked)]);
    }
  }
}

TEST_CASE("Letters, digits and the letter that is asked for are drawn evenly",
          "[tasks][memory_tasks]") {
  const Index samples = 8000;
  const Episodes<double> e = generate<double>(AssociativeRetrieval(), 0, 0, samples);
  std::vector<double> letters(26), last_letters(26), digits(10), answers(10), asked(4);
  for (Index s = 0; s < samples; ++s) {
    const auto symbol = [&](Index t) { return one_hot(e.inputs.col(t * samples + s)); };
    ++letters[static_cast<std::size_t>(symbol(0))];
    ++last_letters[static_cast<std::size_t>(symbol(6))];
    ++digits[static_cast<std::size_t>(symbol(7) - 26)];
    ++answers[static_cast<std::size_t>(one_hot(e.targets.col(10 * samples + s)))];
    for (Index k = 0; k < 4; ++k) asked[static_cast<std::size_t>(k)] += symbol(10) == symbol(2 * k);
  }
  CHECK(all_agree(letters));
  CHECK(all_agree(last_letters));
  CHECK(all_agree(digits));
  CHECK(all_agree(answers));
  CHECK(all_agree(asked));
}

TEMPLATE_TEST_CASE("A vector is familiar if and only if it was new R steps before and comes again",
                   "[tasks][memory_tasks]", float, double) {
  const Index samples = 10;
  for (const Index delay : {1, 3, 7}) {
    const Familiarity task({.bits = 60, .steps = 30, .delay = delay});
    const Episodes<TestType> e = generate<TestType>(task, 0, 0, samples);
    CHECK(e.weights.isOnes(0));
    for (Index s = 0; s < samples; ++s) {
      const auto input = [&](Index t) { return e.inputs.col(t * samples + s); };
      for (Index t = 0; t < 30; ++t) {
        REQUIRE(is_signs(input(t)));
        bool shown_before = false;
        for (Index before = 0; before < t; ++before) {
          if (input(t) != input(before)) continue;
          CHECK_FALSE(shown_before);  // a vector comes twice at most
          CHECK(t - before == delay);
          shown_before = true;
        }
        CHECK(e.targets(0, t * samples + s) == TestType(shown_before));
      }
    }
  }
}

TEST_CASE("New vectors are repeated as often as the option says", "[tasks][memory_tasks]") {
  const Index samples = 500, steps = 40;
  for (const double repeated : {0.0, 0.25, 0.5, 1.0}) {
    const Familiarity task({.bits = 3, .steps = steps, .delay = 4, .repeated = repeated});
    const Episodes<double> e = generate<double>(task, 0, 0, samples);
    double chances = 0, repetitions = 0;
    for (Index column = 4 * samples; column < e.targets.cols(); ++column) {
      if (e.targets(0, column - 4 * samples) == 1) {
        REQUIRE(e.targets(0, column) == 0);
        continue;
      }
      ++chances;
      repetitions += e.targets(0, column);
    }
    CHECK(agrees(repetitions, chances, repeated));
    CHECK(e.targets.leftCols(4 * samples).isZero(0));
    if (repeated == 0.5) {
      CHECK(std::abs(e.targets.rightCols(20 * samples).mean() - 1.0 / 3) < 0.02);
      CHECK(std::abs(e.inputs.mean()) < 5 / std::sqrt(static_cast<double>(e.inputs.size()) / 2));
    }
  }
}

TEMPLATE_TEST_CASE("A sequence is shown whole, and after one delimiter asked for whole",
                   "[tasks][memory_tasks]", float, double) {
  for (const CopyValues values : {CopyValues::uniform, CopyValues::signs, CopyValues::bits}) {
    const Index length = 5, d = 3, samples = 4;
    const Copy task({.length = length, .dimension = d, .values = values});
    const Episodes<TestType> e = generate<TestType>(task, 0, 0, samples);
    for (Index t = 0; t < task.steps(); ++t) {
      for (Index s = 0; s < samples; ++s) {
        const Index column = t * samples + s;
        const auto vector = e.inputs.col(column).head(d);
        CHECK(e.inputs(d, column) == TestType(t == length));
        CHECK(e.weights(0, column) == TestType(t > length));
        if (t >= length) CHECK(vector.isZero(0));
        if (t > length) {
          CHECK(e.targets.col(column) == e.inputs.col((t - length - 1) * samples + s).head(d));
        } else {
          CHECK(e.targets.col(column).isZero(0));
        }
      }
    }
    const auto shown = e.inputs.topLeftCorner(d, length * samples);
    if (values == CopyValues::uniform)
      CHECK((shown.array().abs() <= 1 && shown.array() != 0).all());
    if (values == CopyValues::signs) CHECK(is_signs(shown));
    if (values == CopyValues::bits) CHECK(is_bits(shown));
  }
}

TEST_CASE("The numbers of a copy have the stated distributions", "[tasks][memory_tasks]") {
  const Index samples = 4000;
  const auto shown = [&](CopyValues values) {
    const Copy task({.length = 2, .dimension = 2, .values = values});
    return Matrix<double>(
        generate<double>(task, 0, 0, samples).inputs.topLeftCorner(2, 2 * samples));
  };
  const double roots = std::sqrt(static_cast<double>(4 * samples));
  const Matrix<double> uniform = shown(CopyValues::uniform);
  CHECK(uniform.minCoeff() < -0.999);
  CHECK(uniform.maxCoeff() > 0.999);
  CHECK(std::abs(uniform.mean()) < 5 * std::sqrt(1.0 / 3) / roots);
  CHECK(std::abs(uniform.array().square().mean() - 1.0 / 3) < 5 * 0.3 / roots);
  CHECK(std::abs(uniform.row(0).dot(uniform.row(1))) / (2.0 * samples) < 5 / roots);
  CHECK(std::abs(shown(CopyValues::signs).mean()) < 5 / roots);
  CHECK(std::abs(shown(CopyValues::bits).mean() - 0.5) < 2.5 / roots);
}

TEMPLATE_TEST_CASE("Items are shown after delimiters, then one between two queries, then the next",
                   "[tasks][memory_tasks]", float, double) {
  const Index l = 3, b = 9, samples = 40;
  const AssociativeRecall task({.min_items = 2, .max_items = 5, .length = l, .bits = b});
  REQUIRE(task.steps() == 7 * 4);
  const Episodes<TestType> e = generate<TestType>(task, 0, 0, samples);
  REQUIRE(e.lengths.size() == static_cast<std::size_t>(samples));
  for (Index s = 0; s < samples; ++s) {
    const auto input = [&](Index t) { return e.inputs.col(t * samples + s); };
    const auto item_at = [&](Index t) {
      Matrix<TestType> item(b, l);
      for (Index k = 0; k < l; ++k) item.col(k) = input(t + k).head(b);
      return item;
    };
    const Index length = e.lengths[static_cast<std::size_t>(s)];
    REQUIRE(length % (l + 1) == 0);
    const Index items = length / (l + 1) - 2, query = items * (l + 1), answer = query + l + 1;
    REQUIRE((items >= 2 && items <= 5));
    Matrix<TestType> expected(b, l);
    for (Index k = 0; k + 1 < items; ++k) {
      if (item_at(k * (l + 1) + 1) == item_at(query + 1)) expected = item_at((k + 1) * (l + 1) + 1);
    }
    for (Index t = 0; t < task.steps(); ++t) {
      const bool item_starts = t < query && t % (l + 1) == 0;
      const bool asks = t == query || t == answer, answers = t > answer && t < length;
      CHECK(is_bits(input(t)));
      CHECK(input(t)[b] == TestType(item_starts));
      CHECK(input(t)[b + 1] == TestType(asks));
      if (item_starts || asks || t > answer) CHECK(input(t).head(b).isZero(0));
      CHECK(e.weights(0, t * samples + s) == TestType(answers));
      if (answers) {
        CHECK(e.targets.col(t * samples + s) == expected.col(t - answer - 1));
      } else {
        CHECK(e.targets.col(t * samples + s).isZero(0));
      }
    }
  }
}

TEST_CASE("Numbers of items, bits and the item that is asked for are drawn evenly",
          "[tasks][memory_tasks]") {
  const Index samples = 6000, l = 2, b = 8;
  const AssociativeRecall task({.min_items = 3, .max_items = 6, .length = l, .bits = b});
  const Episodes<double> e = generate<double>(task, 0, 0, samples);
  std::vector<double> items(4), asked(3);
  for (Index s = 0; s < samples; ++s) {
    const Index count = e.lengths[static_cast<std::size_t>(s)] / (l + 1) - 2;
    ++items[static_cast<std::size_t>(count - 3)];
    if (count != 4) continue;
    const auto input = [&](Index t) { return e.inputs.col(t * samples + s); };
    for (Index k = 0; k < 3; ++k) {
      asked[static_cast<std::size_t>(k)] += input(k * (l + 1) + 1) == input(count * (l + 1) + 1) &&
                                            input(k * (l + 1) + 2) == input(count * (l + 1) + 2);
    }
  }
  CHECK(all_agree(items));
  CHECK(all_agree(asked));
  const auto bits = e.inputs.block(0, samples, b, l * samples);
  CHECK(agrees(bits.sum(), static_cast<double>(bits.size()), 0.5));
}

TEMPLATE_TEST_CASE("Vectors are shown with priorities and asked for from the highest down",
                   "[tasks][memory_tasks]", float, double) {
  const Index n = 7, k = 4, b = 5, samples = 30;
  const PrioritySort task({.vectors = n, .answers = k, .bits = b});
  REQUIRE(task.steps() == n + k + 1);
  const Episodes<TestType> e = generate<TestType>(task, 0, 0, samples);
  for (Index s = 0; s < samples; ++s) {
    const auto input = [&](Index t) { return e.inputs.col(t * samples + s); };
    std::vector<Index> order(static_cast<std::size_t>(n));
    std::iota(order.begin(), order.end(), Index{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](Index i, Index j) { return input(i)[b] > input(j)[b]; });
    for (Index t = 0; t < task.steps(); ++t) {
      CHECK(input(t)[b + 1] == TestType(t == n));
      CHECK(e.weights(0, t * samples + s) == TestType(t > n));
      if (t < n) {
        CHECK(is_bits(input(t).head(b)));
        CHECK(std::abs(input(t)[b]) <= 1);
        CHECK(input(t)[b] != 0);
      } else {
        CHECK(input(t).head(b + 1).isZero(0));
      }
      const auto target = e.targets.col(t * samples + s);
      if (t > n) {
        CHECK(target == input(order[static_cast<std::size_t>(t - n - 1)]).head(b));
      } else {
        CHECK(target.isZero(0));
      }
    }
  }
}

TEST_CASE("Priorities are uniform, and their vectors are even bits", "[tasks][memory_tasks]") {
  const Index n = 4, b = 3, samples = 4000;
  const PrioritySort task({.vectors = n, .answers = n, .bits = b});
  const Episodes<double> e = generate<double>(task, 0, 0, samples);
  const auto priorities = e.inputs.row(b).head(n * samples).array();
  const double count = static_cast<double>(n * samples);
  CHECK(priorities.minCoeff() < -0.999);
  CHECK(priorities.maxCoeff() > 0.999);
  CHECK(std::abs(priorities.mean()) < 5 * std::sqrt(1.0 / 3 / count));
  CHECK(std::abs(priorities.square().mean() - 1.0 / 3) < 5 * 0.3 / std::sqrt(count));
  const auto bits = e.inputs.topLeftCorner(b, n * samples);
  CHECK(agrees(bits.sum(), static_cast<double>(bits.size()), 0.5));
  CHECK(agrees(bits.row(0).dot(bits.row(1)), count, 0.25));
  // The vector of the first step is as often of one rank as of any other.
  std::vector<double> ranks(4);
  for (Index s = 0; s < samples; ++s) {
    Index rank = 0;
    for (Index t = 1; t < n; ++t) rank += e.inputs(b, t * samples + s) > e.inputs(b, s);
    ++ranks[static_cast<std::size_t>(rank)];
  }
  CHECK(all_agree(ranks));
}

TEST_CASE("The memory tasks name the count that they refuse", "[tasks][memory_tasks]") {
  const auto refusals = [](const std::string& task, const std::string& field, Index least,
                           const auto& make) {
    for (const Index bad : {least - 1, Index{-1}, too_many}) {
      CHECK(rejection([&] { make(bad); }) == task + ": " + field + " must be an integer in [" +
                                                 std::to_string(least) + ", 2^31), got " +
                                                 std::to_string(bad));
    }
  };
  refusals("PatternCompletion", "bits", 1, [](Index x) { PatternCompletion({.bits = x}); });
  refusals("PatternCompletion", "patterns", 1, [](Index x) { PatternCompletion({.patterns = x}); });
  refusals("PatternCompletion", "rounds", 1, [](Index x) { PatternCompletion({.rounds = x}); });
  refusals("PatternCompletion", "presentation_steps", 1,
           [](Index x) { PatternCompletion({.presentation_steps = x}); });
  refusals("PatternCompletion", "blank_steps", 0,
           [](Index x) { PatternCompletion({.blank_steps = x}); });
  refusals("PatternCompletion", "probe_steps", 1,
           [](Index x) { PatternCompletion({.probe_steps = x}); });
  refusals("KeyValueRetrieval", "keys", 1, [](Index x) { KeyValueRetrieval({.keys = x}); });
  refusals("KeyValueRetrieval", "pairs", 0, [](Index x) { KeyValueRetrieval({.pairs = x}); });
  refusals("Familiarity", "bits", 1, [](Index x) { Familiarity({.bits = x}); });
  refusals("Familiarity", "steps", 1, [](Index x) { Familiarity({.steps = x}); });
  refusals("Familiarity", "delay", 1, [](Index x) { Familiarity({.delay = x}); });
  refusals("Copy", "length", 1, [](Index x) { Copy({.length = x}); });
  refusals("Copy", "dimension", 1, [](Index x) { Copy({.dimension = x}); });
  refusals("AssociativeRecall", "min_items", 2,
           [](Index x) { AssociativeRecall({.min_items = x}); });
  refusals("AssociativeRecall", "max_items", 1,
           [](Index x) { AssociativeRecall({.max_items = x}); });
  refusals("AssociativeRecall", "length", 1, [](Index x) { AssociativeRecall({.length = x}); });
  refusals("AssociativeRecall", "bits", 1, [](Index x) { AssociativeRecall({.bits = x}); });
  refusals("PrioritySort", "vectors", 1, [](Index x) { PrioritySort({.vectors = x}); });
  refusals("PrioritySort", "answers", 1, [](Index x) { PrioritySort({.answers = x}); });
  refusals("PrioritySort", "bits", 1, [](Index x) { PrioritySort({.bits = x}); });
  for (const Index bad : {0, -1, 27}) {
    CHECK(rejection([&] { AssociativeRetrieval({.pairs = bad}); }) ==
          "AssociativeRetrieval: pairs must be in 1 .. 26, got " + std::to_string(bad));
  }
}

TEST_CASE("The memory tasks name a share, a choice or a combination that they refuse",
          "[tasks][memory_tasks]") {
  for (const double bad : {-0.5, 1.5}) {
    const std::string message = " must be a finite number in [0, 1], got ";
    CHECK(rejection([&] { PatternCompletion({.zeroed = bad}); }) ==
          "PatternCompletion: zeroed" + message + (bad < 0 ? "-0.5" : "1.5"));
    CHECK(rejection([&] { Familiarity({.repeated = bad}); }) ==
          "Familiarity: repeated" + message + (bad < 0 ? "-0.5" : "1.5"));
  }
  CHECK_THROWS_AS(PatternCompletion({.zeroed = std::nan("")}), std::invalid_argument);
  CHECK_THROWS_AS(Familiarity({.repeated = std::numeric_limits<double>::infinity()}),
                  std::invalid_argument);
  CHECK(rejection([] { Copy({.values = static_cast<CopyValues>(3)}); }) ==
        "Copy: values must be one of CopyValues, got 3");
  CHECK(rejection([] { KeyValueRetrieval({.keys = 5, .pairs = 6, .repeats = false}); }) ==
        "KeyValueRetrieval: pairs must be at most the number of keys, as nothing repeats, got 6");
  CHECK(rejection([] { AssociativeRecall({.min_items = 5, .max_items = 4}); }) ==
        "AssociativeRecall: max_items must be at least min_items, got 4");
  CHECK(rejection([] { PrioritySort({.vectors = 5, .answers = 6}); }) ==
        "PrioritySort: answers must be at most the number of vectors, got 6");
  CHECK_NOTHROW(KeyValueRetrieval({.keys = 5, .pairs = 6}));
  CHECK_NOTHROW(KeyValueRetrieval({.keys = 1, .pairs = 1, .repeats = false}));
  CHECK_NOTHROW(AssociativeRecall({.min_items = 2, .max_items = 2, .length = 1, .bits = 1}));
  CHECK_NOTHROW(PrioritySort({.vectors = 1, .answers = 1, .bits = 1}));
  CHECK_NOTHROW(PatternCompletion({.blank_steps = 0}));
}

TEST_CASE("The memory tasks refuse more steps than can be counted", "[tasks][memory_tasks]") {
  constexpr Index many = Index{1} << 30;
  const auto ends = [](const std::string& message) {
    return message.find("must be below 2^31, got 2.14748e+09") != std::string::npos;
  };
  CHECK(rejection([] { PatternCompletion({.patterns = many, .rounds = many}); }) ==
        "PatternCompletion: the number of steps must be below 2^31, got 1.15292e+19");
  CHECK(ends(rejection([] { KeyValueRetrieval({.keys = many}); })));
  CHECK(ends(rejection([] { KeyValueRetrieval({.pairs = 2 * (many - 1) + 1}); })));
  CHECK(ends(rejection([] { Copy({.length = many}); })));
  CHECK(ends(rejection([] { AssociativeRecall({.max_items = many, .length = 1}); })));
  CHECK(ends(rejection([] { PrioritySort({.vectors = many, .answers = many}); })));
}

TEST_CASE("The settings of a memory task have its name and every option", "[tasks][memory_tasks]") {
  CHECK(PatternCompletion().settings() == Settings{{"name", "pattern_completion"},
                                                   {"bits", "1000"},
                                                   {"patterns", "5"},
                                                   {"rounds", "2"},
                                                   {"presentation_steps", "6"},
                                                   {"blank_steps", "4"},
                                                   {"probe_steps", "6"},
                                                   {"zeroed", "0.5"}});
  CHECK(KeyValueRetrieval({.keys = 7}).settings() ==
        Settings{
            {"name", "key_value_retrieval"}, {"keys", "7"}, {"pairs", "14"}, {"repeats", "true"}});
  CHECK(AssociativeRetrieval().settings() ==
        Settings{{"name", "associative_retrieval"}, {"pairs", "4"}});
  CHECK(Familiarity().settings() == Settings{{"name", "familiarity"},
                                             {"bits", "100"},
                                             {"steps", "200"},
                                             {"delay", "5"},
                                             {"repeated", "0.5"}});
  CHECK(Copy({.values = CopyValues::bits}).settings() ==
        Settings{{"name", "copy"}, {"length", "100"}, {"dimension", "10"}, {"values", "2"}});
  CHECK(AssociativeRecall().settings() == Settings{{"name", "associative_recall"},
                                                   {"min_items", "2"},
                                                   {"max_items", "6"},
                                                   {"length", "3"},
                                                   {"bits", "6"}});
  CHECK(PrioritySort().settings() ==
        Settings{{"name", "priority_sort"}, {"vectors", "20"}, {"answers", "16"}, {"bits", "8"}});
}

TEST_CASE("A network trains on every memory task, here on a mix of them", "[tasks][memory_tasks]") {
  using Mix = TaskMix<PatternCompletion, KeyValueRetrieval, AssociativeRetrieval, Familiarity, Copy,
                      AssociativeRecall, PrioritySort>;
  const Mix mix({{PatternCompletion({.bits = 9, .patterns = 2}), 1},
                 {KeyValueRetrieval({.keys = 3}), 1},
                 {AssociativeRetrieval(), 1},
                 {Familiarity({.bits = 5, .steps = 6}), 1},
                 {Copy({.length = 3}), 1},
                 {AssociativeRecall(), 1},
                 {PrioritySort(), 1}});
  PlasticRNN<Hebbian, float> net({.inputs = mix.inputs(), .hidden = 8, .outputs = mix.outputs()});
  AdamW<float> optimizer(net.parameters());
  Trainer trainer(net, mix, optimizer, {.batch = 4, .threads = 1});
  std::vector<bool> seen(7);
  for (Index batch = 0; batch < 30; ++batch) {
    trainer.step(batch);
    seen[mix.part_of({0, Random::Purpose::training}, static_cast<std::uint64_t>(batch))] = true;
  }
  CHECK(seen == std::vector<bool>(7, true));
  const double loss = trainer.evaluate({0, Random::Purpose::validation}, 3);
  CHECK(std::isfinite(loss));
  CHECK(loss > 0);
}
