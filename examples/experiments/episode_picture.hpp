#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "plastic/images/answers.hpp"

namespace experiments {

/// What a network did in one episode.
struct PicturedEpisode {
  std::vector<plastic::ShownImage> shown;  ///< support, then queries
  std::size_t support = 0;
  std::vector<std::vector<double>> answers;  ///< probability of each label, for each query
};

/// Writes an SVG with a row for each episode: the support images over their labels, then the
/// queries over the network's answers, each in a frame that tells right from wrong.
void write_picture(const std::filesystem::path& path, const plastic::ImageSet& set,
                   const std::vector<PicturedEpisode>& episodes);

/// Such a picture of the first `count` test episodes.
template <class Cell>
void draw_episodes(plastic::ImageClassifier<Cell>& model, const plastic::FewShotImages& test,
                   plastic::Index count, const std::filesystem::path& path) {
  using namespace plastic;
  using Values = Matrix<typename Cell::ScalarType>;
  const DrawnEpisodes drawn(test, {0, Random::Purpose::test}, 1, count, 1);
  const Values embedded = embed_images(model, test.set(), drawn.images(), 1);
  std::vector<PicturedEpisode> episodes;
  for (Index e = 0; e < count; ++e) {
    PicturedEpisode& episode = episodes.emplace_back();
    episode.shown = drawn[e];
    episode.support = static_cast<std::size_t>(drawn.support_steps());
    answer_queries(model, drawn, e, 1, embedded, [&](Index, const Values& p) {
      episode.answers.emplace_back(p.data(), p.data() + p.size());
    });
  }
  write_picture(path, test.set(), episodes);
}

}  // namespace experiments
