#pragma once

#include <string>
#include <utility>
#include <vector>

#include "results.hpp"

namespace experiments {

/// What comparisons say of a claim. Two sides are compared where both have two seeds or more, by
/// their 95% intervals.
struct Tally {
  int agree = 0;                        ///< the intervals are apart, as the claim says
  int reversed = 0;                     ///< they are apart the other way round
  int open = 0;                         ///< they overlap
  int single = 0;                       ///< one seed on a side
  int single_agree = 0;                 ///< those of them whose means differ as the claim says
  int missing = 0;                      ///< no run on a side
  std::vector<std::string> exceptions;  ///< the reversed ones in words

  /// Takes "`better` is less than `worse`" into account, the values of seeds.
  void compare(const std::vector<double>& better, const std::vector<double>& worse,
               const std::string& in_words);

  int compared() const { return agree + reversed + open; }
  int all() const { return compared() + single + missing; }

  /// "holds", "holds partly" or "does not hold here", "so far" where some comparisons have no
  /// intervals yet, or "not run yet".
  std::string verdict() const;
  /// How many comparisons of each kind there are, in words.
  std::string counts() const;
};

/// How much eta is there while something is shown, in between, and while it is asked for: the mean
/// of these steps for each run. Empty without an eta or where the task has no such steps.
struct EtaByPhase {
  std::vector<double> shown, between, asked;
};
EtaByPhase eta_by_phase(const Variant& variant);

/// A statement on which of two networks has the lower error, or the higher reward if they act.
struct Claim {
  enum class Kind {
    rules,        ///< one rule against another in the same cell and task
    networks,     ///< the network of a rule against that of another, whatever its cell
    eta_is_high,  ///< eta while something is shown against eta while it is asked for
  };

  std::string title, statement;
  std::vector<std::string> experiments;
  Kind kind;
  std::string setting = {};                                     ///< in which the two differ
  std::vector<std::pair<std::string, std::string>> pairs = {};  ///< (better, worse); "*": any other
  std::vector<std::string> figures = {};
  std::string note = {};
};

/// Those of the paper, then those of the literature.
const std::vector<Claim>& paper_claims();
const std::vector<Claim>& literature_claims();

/// What these experiments say of the claim. A pair of networks that two of them have counts once.
Tally tally(const Claim& claim, const std::vector<const Results*>& experiments);

}  // namespace experiments
