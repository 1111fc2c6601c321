#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "plastic/core/random.hpp"
#include "plastic/core/settings.hpp"
#include "plastic/images/image_set.hpp"

namespace plastic {

/// Settings of FewShotImages, all at least 1.
struct FewShotImagesOptions {
  Index way = 5;      ///< classes of an episode
  Index shot = 1;     ///< labelled images of each class
  Index queries = 1;  ///< images of each class to be classified
};

/// One step of an episode: an image and the label that its class has there.
struct ShownImage {
  Index image = 0;  ///< number in the set
  Index label = 0;  ///< in 0 .. way - 1
};

/// One episode, and the memory that drawing it takes.
struct DrawnEpisode {
  std::vector<ShownImage> steps;  ///< support, then queries
  std::vector<Index> classes;     ///< workspace of FewShotImages::draw
  std::vector<Index> labels;      ///< likewise
  std::vector<Index> images;      ///< likewise
};

/// N-way K-shot episodes of a set of images.
///
/// An episode takes `way` classes and of each `shot + queries` different images. Labels are a fresh
/// random permutation, independent of the class. The first way * shot steps are the support, the
/// rest the queries, each part in random order. Const and safe from several threads.
class FewShotImages {
 public:
  /// `set` must outlive this object. Throws std::invalid_argument if a count is not positive, or
  /// the set has too few classes or a class too few images.
  FewShotImages(const ImageSet& set, const FewShotImagesOptions& options = {})
      : set_(&set), options_(options) {
    constexpr std::string_view here = "FewShotImages";
    detail::check_positive(here, "way", options.way);
    detail::check_positive(here, "shot", options.shot);
    detail::check_positive(here, "queries", options.queries);
    if (static_cast<Index>(set.classes.size()) < options.way) {
      detail::reject(here, "the classes of the set", "at least " + std::to_string(options.way),
                     set.classes.size());
    }
    for (const ImageClass& c : set.classes) {
      if (c.count < options.shot + options.queries) {
        detail::reject(here, "the images of class " + c.name,
                       "at least " + std::to_string(options.shot + options.queries), c.count);
      }
    }
  }

  const ImageSet& set() const { return *set_; }                         ///< set of the images
  const FewShotImagesOptions& options() const { return options_; }      ///< options as given
  Index support_steps() const { return options_.way * options_.shot; }  ///< labelled steps
  /// Number of steps of an episode: support and queries.
  Index steps() const { return options_.way * (options_.shot + options_.queries); }

  /// Writes the steps of one episode, a function of the random numbers alone. Allocates nothing
  /// where `episode` has held one before.
  void draw(Random& random, DrawnEpisode& episode) const {
    choose(static_cast<Index>(set_->classes.size()), options_.way, random, episode.classes);
    choose(options_.way, options_.way, random, episode.labels);
    episode.steps.resize(static_cast<std::size_t>(steps()));
    const auto support = std::span(episode.steps).first(static_cast<std::size_t>(support_steps()));
    const auto queries = std::span(episode.steps).subspan(support.size());
    auto next_support = support.begin(), next_query = queries.begin();
    for (std::size_t k = 0; k < episode.classes.size(); ++k) {
      const ImageClass& c = set_->classes[static_cast<std::size_t>(episode.classes[k])];
      choose(c.count, options_.shot + options_.queries, random, episode.images);
      for (std::size_t i = 0; i < episode.images.size(); ++i) {
        auto& next = static_cast<Index>(i) < options_.shot ? next_support : next_query;
        *next++ = {c.first + episode.images[i], episode.labels[k]};
      }
    }
    shuffle(support, random);
    shuffle(queries, random);
  }

  /// The options and a fingerprint of the images, for a checkpoint.
  Settings settings() const {
    using detail::number_text;
    return {{"episodes.way", number_text(options_.way)},
            {"episodes.shot", number_text(options_.shot)},
            {"episodes.queries", number_text(options_.queries)},
            {"images", fingerprint(*set_)}};
  }

 private:
  /// Draws `count` distinct numbers from 0 .. n - 1 in random order.
  static void choose(Index n, Index count, Random& random, std::vector<Index>& chosen) {
    chosen.clear();
    while (static_cast<Index>(chosen.size()) < count) {
      const auto next = static_cast<Index>(random.below(static_cast<std::uint32_t>(n)));
      if (std::find(chosen.begin(), chosen.end(), next) == chosen.end()) chosen.push_back(next);
    }
  }

  static void shuffle(std::span<ShownImage> items, Random& random) {
    for (std::size_t k = items.size(); k > 1; --k) {
      std::swap(items[k - 1], items[random.below(static_cast<std::uint32_t>(k))]);
    }
  }

  const ImageSet* set_;
  FewShotImagesOptions options_;
};

}  // namespace plastic
