#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <iomanip>
#include <limits>
#include <locale>
#include <ostream>
#include <sstream>
#include <string>
#include <utility>

#include "plastic/train/callback.hpp"

namespace plastic {

/// Shows the progress of a run on a stream: percentage, training loss, latest validation loss and
/// its measures, batches per second, time left.
///
/// On a terminal it is one line, drawn again at most ten times a second, at every validation and at
/// the end; a label of up to 14 characters keeps it within 80 columns. Its training loss is a
/// moving average over about 50 batches. On any other stream it is a plain line at each validation,
/// with the mean training loss since the previous one. Rates count from the first batch that the
/// bar sees. A stream that fails does not end the run: see its state. After `on_end` the object
/// serves another run.
class ProgressBar : public TrainingCallback {
 public:
  /// `stream` must outlive the bar; `terminal` says whether the stream is a terminal (POSIX:
  /// isatty).
  ProgressBar(std::ostream& stream, std::string label, bool terminal)
      : stream_(stream), label_(std::move(label)), terminal_(terminal) {}

  void on_batch(const Progress& progress) override {
    hear(progress);
    if (std::isfinite(train_loss_) && std::isfinite(progress.train_loss)) {
      train_loss_ += (progress.train_loss - train_loss_) / 50;
    } else {
      train_loss_ = progress.train_loss;
    }
    if (terminal_ && progress.seconds - drawn_ >= 0.1) draw(progress);
  }

  void on_validation(const Progress& progress) override {
    hear(progress);
    if (terminal_) {
      draw(progress);
    } else {
      const std::string before = label_.empty() ? "" : label_ + "  ";
      stream_ << before + "batch " + std::to_string(progress.batch) + "/" +
                     std::to_string(progress.batches) +
                     figures(progress, progress.train_loss, true) + "\n"
              << std::flush;
    }
  }

  void on_end(const Progress& progress) override {
    if (terminal_) {
      hear(progress);
      draw(progress);
      stream_ << "\n" << std::flush;
    }
    begun_ = false;
    width_ = 0;
    train_loss_ = std::numeric_limits<double>::quiet_NaN();
    drawn_ = -std::numeric_limits<double>::infinity();
  }

 private:
  void hear(const Progress& progress) {
    if (begun_) return;
    begun_ = true;
    first_batch_ = progress.batch;
    first_seconds_ = progress.seconds;
  }

  static std::string number(double value, int precision, bool fixed) {
    std::ostringstream text;
    text.imbue(std::locale::classic());
    if (fixed) text << std::fixed;
    text << std::setprecision(precision) << value;
    return text.str();
  }

  static std::string duration(double seconds) {
    if (!(seconds >= 0 && seconds < 1e9)) return "-";
    const auto all = static_cast<long>(std::ceil(seconds));
    std::array<char, 32> text;
    std::snprintf(text.data(), text.size(), "%ld:%02ld:%02ld", all / 3600, all / 60 % 60, all % 60);
    return text.data();
  }

  /// The first `most` measures; shares only, unless there are at most `most` measures in all.
  static std::string measures(const Progress& progress, std::size_t most) {
    std::string text;
    for (const Measure& measure : progress.measures) {
      if (most == 0 || !(measure.count > 0)) continue;
      if (!measure.is_share && most < progress.measures.size()) continue;
      text += "  " + std::string(measure.name) + " ";
      text += measure.is_share ? number(100 * measure.mean(), 1, true) + "%"
                               : number(measure.mean(), 4, false);
      --most;
    }
    return text;
  }

  std::string figures(const Progress& progress, double train_loss, bool plain) const {
    const auto done = static_cast<double>(progress.batch - first_batch_);
    const double taken = progress.seconds - first_seconds_;
    const double rate = done > 0 && taken > 0 ? done / taken : 0;
    const double left = static_cast<double>(progress.batches - progress.batch) / rate;
    const int digits = plain ? 4 : 3;
    const std::string train = number(train_loss, digits, false);
    const std::string validation = std::isnan(progress.validation_loss)
                                       ? "-"
                                       : number(progress.validation_loss, digits, false);
    const std::string speed = rate > 0 ? number(rate, 1, true) : "-";
    if (plain) {
      return "  train loss " + train + "  validation loss " + validation +
             measures(progress, progress.measures.size()) + "  " + speed + " batches/s  " +
             duration(left) + " left";
    }
    const std::string rest = "  " + speed + "/s  " + duration(left);
    const std::string losses = "  train " + train + "  val " + validation;
    const std::string all = losses + measures(progress, 1) + rest;
    return all.size() + label_.size() + 13 <= 79 ? all : losses + rest;
  }

  void draw(const Progress& progress) {
    const Index percent = progress.batches > 0
                              ? std::clamp<Index>(100 * progress.batch / progress.batches, 0, 100)
                              : 100;
    std::string before = std::to_string(percent) + "% ";
    before.insert(0, 5 - before.size(), ' ');
    if (!label_.empty()) before = label_ + " " + before;
    const std::string after = figures(progress, train_loss_, false);
    const std::size_t taken = before.size() + after.size() + 2;
    const std::size_t bar = std::clamp<std::size_t>(taken < 79 ? 79 - taken : 0, 4, 16);
    const std::size_t full = bar * static_cast<std::size_t>(percent) / 100;
    std::string line =
        before + "[" + std::string(full, '#') + std::string(bar - full, '.') + "]" + after;
    // Spaces overwrite the rest of a longer previous line.
    const std::size_t before_it = std::exchange(width_, line.size());
    if (line.size() < before_it) line.append(before_it - line.size(), ' ');
    drawn_ = progress.seconds;
    stream_ << "\r" + line << std::flush;
  }

  std::ostream& stream_;
  std::string label_;
  bool terminal_;
  bool begun_ = false;
  Index first_batch_ = 0;
  double first_seconds_ = 0;
  double train_loss_ = std::numeric_limits<double>::quiet_NaN();
  double drawn_ = -std::numeric_limits<double>::infinity();
  std::size_t width_ = 0;
};

}  // namespace plastic
