#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <concepts>
#include <functional>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "plastic/core/communicator.hpp"
#include "plastic/train/callback.hpp"

namespace plastic {

/// A callback, as an lvalue or a temporary.
template <class T>
concept CallbackReference = std::derived_from<std::remove_cvref_t<T>, TrainingCallback>;

/// A trainer as its run sees it: batches to do one after another, and a state to save.
class RunnableTrainer {
 public:
  virtual ~RunnableTrainer() = default;

  virtual Index batches() const = 0;           ///< batches in the whole run
  virtual Index validation_every() const = 0;  ///< batches between two validations; 0: none
  virtual double step(Index batch) = 0;        ///< trains on a batch and returns its loss
  virtual Evaluation validate() = 0;           ///< evaluates the network as it is
  /// Settings that must be the same for a run of `batches` to resume.
  virtual Settings settings(Index batches) const = 0;
  /// Adds parameters and optimizer to a file.
  virtual void save(TensorFile& file) const = 0;
  /// Reads them back, as TrainingCallback::restore does.
  virtual std::function<void()> restore(const TensorFile& file) = 0;
  /// Processes that run together, or nullptr where there is only this one.
  virtual Communicator* communicator() const { return nullptr; }
  /// Gives parameters and optimizer of rank 0 to all other ranks.
  virtual void share() {}

  /// @{
  /// Trains batches 0 .. batches() - 1 and tells the callbacks; their order does not matter. A
  /// Checkpoint among them restores the state of an earlier run. After every `validation_every`
  /// batches and after the last one the network is validated. Ends early, after a last validation,
  /// when a callback wants to. Returns the final state of the run. What a step or a callback throws
  /// ends the run, without `on_end`.
  ///
  /// Of several ranks only rank 0 tells its callbacks anything: it writes the files, draws the bar,
  /// and decides when the run ends. All begin with its state, and all return. Throws
  /// std::invalid_argument, naming the setting, on a rank whose settings differ from those of rank
  /// 0.
  Progress run(std::span<TrainingCallback* const> callbacks);
  template <CallbackReference... Callbacks>
  Progress run(Callbacks&&... callbacks) {
    const std::array<TrainingCallback*, sizeof...(Callbacks)> all{&callbacks...};
    return run(std::span<TrainingCallback* const>(all));
  }
  /// @}
};

namespace detail {

/// One run: its progress, and saving it to a checkpoint and back.
class TrainingLoop final : public ResumableRun {
 public:
  TrainingLoop(RunnableTrainer& trainer, std::span<TrainingCallback* const> callbacks)
      : trainer_(trainer), callbacks_(callbacks.begin(), callbacks.end()) {
    progress_.batches = trainer.batches();
    if (std::count(callbacks_.begin(), callbacks_.end(), nullptr) > 0) {
      reject("Trainer::run", "every callback", "non-null", "nullptr");
    }
    std::stable_partition(callbacks_.begin(), callbacks_.end(),
                          [](auto* c) { return !c->comes_last(); });
    if (is_divided(trainer.communicator())) others_ = trainer.communicator();
    if (!leads(others_)) callbacks_.clear();
  }

  Progress run() {
    if (others_ != nullptr) {
      Settings all = trainer_.settings(progress_.batches);
      all["batches"] = number_text(progress_.batches);
      check_settings_agree(*others_, "Trainer::run", all);
    }
    for (TrainingCallback* callback : callbacks_) callback->on_begin(*this);
    if (others_ != nullptr) share();
    double mean = std::numeric_limits<double>::quiet_NaN();
    bool stopped = progress_.batch > 0 && stop_is_wanted();
    for (;;) {
      if (validation_is_due(stopped)) {
        mean = std::exchange(recent_sum_, 0) / static_cast<double>(std::exchange(recent_, 0));
        validation_ = trainer_.validate();
        progress_.validation_loss = validation_.loss;
        progress_.measures = validation_.measures();
        tell(&TrainingCallback::on_validation, mean);
        stopped = stopped || stop_is_wanted();
      }
      if (stopped || progress_.batch >= progress_.batches) break;
      const double loss = trainer_.step(progress_.batch);
      ++progress_.batch;
      recent_sum_ += loss;
      ++recent_;
      tell(&TrainingCallback::on_batch, loss);
      stopped = stop_is_wanted();
    }
    tell(&TrainingCallback::on_end, mean);
    progress_.measures = {};  // their storage ends with the loop
    return progress_;
  }

  TensorFile state() const override {
    TensorFile file;
    if (settings_.empty()) settings_ = settings(progress_.batches);
    file.metadata = settings_;
    trainer_.save(file);
    file.metadata["state.batches"] = number_text(progress_.batches);
    file.metadata["state.batches_done"] = number_text(progress_.batch);
    file.metadata["state.validation_loss"] = number_text(progress_.validation_loss);
    file.metadata["state.seconds"] = number_text(progress_.seconds);
    file.metadata["state.recent_sum"] = number_text(recent_sum_);
    file.metadata["state.recent_batches"] = number_text(recent_);
    for (const auto& [name, callback] : named_callbacks()) {
      callback->save(file, "state." + name + ".");
    }
    return file;
  }

  void resume(const TensorFile& file, std::string_view source,
              std::span<const std::string> allow) override {
    check_settings(file, source, allow);
    std::vector<std::function<void()>> put_in_force{trainer_.restore(file)};
    const std::string known = " " + setting(file.metadata, "callbacks") + " ";
    for (const auto& [name, callback] : named_callbacks()) {
      if (known.find(" " + name + " ") == std::string::npos) continue;
      put_in_force.push_back(callback->restore(file, "state." + name + "."));
    }
    const auto batch = number_setting<Index>(file.metadata, "state.batches_done");
    const auto loss = number_setting<double>(file.metadata, "state.validation_loss");
    const auto seconds = number_setting<double>(file.metadata, "state.seconds");
    const auto recent_sum = number_setting<double>(file.metadata, "state.recent_sum");
    const auto recent = number_setting<Index>(file.metadata, "state.recent_batches");
    if (batch < 0 || recent < 0 || recent > batch) {
      reject(
          "Checkpoint",
          "the numbers of batches done and of batches since a validation in " + std::string(source),
          "at least 0 and the second at most the first",
          std::to_string(batch) + " and " + std::to_string(recent));
    }
    for (const auto& put : put_in_force) put();
    progress_.batch = batch;
    progress_.validation_loss = loss;
    progress_.seconds = seconds_before_ = seconds;
    recent_sum_ = recent_sum;
    recent_ = recent;
  }

 private:
  using Clock = std::chrono::steady_clock;

  /// Also when a run resumes from a checkpoint that was written just before a validation.
  bool validation_is_due(bool stopped) const {
    const Index every = trainer_.validation_every();
    return every > 0 && recent_ > 0 &&
           (stopped || progress_.batch == progress_.batches || progress_.batch % every == 0);
  }

  bool stop_is_wanted() const {
    const bool wanted = std::any_of(callbacks_.begin(), callbacks_.end(),
                                    [](const auto* c) { return c->wants_stop(); });
    return others_ == nullptr ? wanted : broadcast_value(*others_, wanted);
  }

  /// Where rank 0 begins, all begin.
  void share() {
    trainer_.share();
    progress_.batch = broadcast_value(*others_, progress_.batch);
    progress_.validation_loss = broadcast_value(*others_, progress_.validation_loss);
    recent_sum_ = broadcast_value(*others_, recent_sum_);
    recent_ = broadcast_value(*others_, recent_);
  }

  void tell(void (TrainingCallback::*what)(const Progress&), double train_loss) {
    progress_.seconds =
        seconds_before_ + std::chrono::duration<double>(Clock::now() - begin_).count();
    progress_.train_loss = train_loss;
    for (TrainingCallback* callback : callbacks_) (callback->*what)(progress_);
  }

  /// Callbacks with a state. The second one of a name is NAME.2 and so on, in the order given.
  std::map<std::string, TrainingCallback*> named_callbacks() const {
    std::map<std::string, int> counts;
    std::map<std::string, TrainingCallback*> named;
    for (TrainingCallback* callback : callbacks_) {
      const std::string name(callback->name());
      if (name.empty()) continue;
      const int count = ++counts[name];
      named[count == 1 ? name : name + "." + std::to_string(count)] = callback;
    }
    return named;
  }

  /// Settings that must be the same for a run to resume.
  Settings settings(Index batches) const {
    Settings all = trainer_.settings(batches);
    std::string& names = all["callbacks"];
    for (const auto& [name, callback] : named_callbacks()) {
      names += (names.empty() ? "" : " ") + name;
      add_settings(all, name + ".", callback->settings());
    }
    return all;
  }

  /// Throws, naming the first setting that differs without permission.
  void check_settings(const TensorFile& file, std::string_view source,
                      std::span<const std::string> allow) const {
    // A schedule of the batch alone may continue past the end of the run that wrote the file.
    const Settings here = settings(number_setting<Index>(file.metadata, "state.batches"));
    Settings there;
    for (const auto& [name, value] : file.metadata) {
      if (!name.starts_with("state.")) there[name] = value;
    }
    const auto text = [](const Settings& settings, const std::string& name) {
      const auto found = settings.find(name);
      return found == settings.end() ? std::string("none") : found->second;
    };
    Settings all = here;
    all.insert(there.begin(), there.end());
    for (const std::string& name : allow) {
      if (!all.contains(name)) {
        reject("Checkpoint", "every name in CheckpointOptions::allow", "a setting of the run",
               name);
      }
    }
    for (const auto& [name, value] : all) {
      if (std::find(allow.begin(), allow.end(), name) != allow.end()) continue;
      if (const std::string got = text(there, name); got != text(here, name)) {
        reject("Checkpoint", "\"" + name + "\" in " + std::string(source),
               text(here, name) + ", as in this run, unless CheckpointOptions::allow names it",
               got);
      }
    }
  }

  RunnableTrainer& trainer_;
  std::vector<TrainingCallback*> callbacks_;
  Communicator* others_ = nullptr;  // nullptr where there are none
  Clock::time_point begin_ = Clock::now();
  double seconds_before_ = 0;  // time of the run that this one resumes
  Progress progress_;
  Evaluation validation_;
  mutable Settings settings_;  // cached: for images they take a pass over the pixels
  double recent_sum_ = 0;      // sum of the losses since the last validation
  Index recent_ = 0;
};

}  // namespace detail

inline Progress RunnableTrainer::run(std::span<TrainingCallback* const> callbacks) {
  return detail::TrainingLoop(*this, callbacks).run();
}

}  // namespace plastic
