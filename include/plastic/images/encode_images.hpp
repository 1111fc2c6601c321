#pragma once

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "plastic/images/augmentation.hpp"
#include "plastic/images/few_shot_images.hpp"
#include "plastic/nn/encoder.hpp"

namespace plastic {

/// Puts images of a set, as they are, through an encoder in use: calls f(first, features), with the
/// features (features() x some) of `numbers[first]` and those after it, until all have passed.
/// Memory is that of 256 images. Throws std::invalid_argument if the images do not fit the encoder.
template <class Scalar, class F>
void encode_images(Encoder<Scalar>& encoder, const ImageSet& set, std::span<const Index> numbers,
                   int threads, F&& f) {
  constexpr Index most = 256;  // at a time, so that memory does not grow with their number
  Tape<Scalar> tape;
  Matrix<Scalar> images(set.shape.size(), most);
  const auto count = static_cast<Index>(numbers.size());
  for (Index first = 0; first < count; first += most) {
    const Index some = std::min(most, count - first);
    parallel_for(some, threads, [&](Index k, int) {
      Random unused({}, 0, 0);
      load_image(set, numbers[static_cast<std::size_t>(first + k)], {}, unused,
                 images.col(k).data());
    });
    tape.clear();
    f(first, encoder.encode(tape.borrow(images.data(), images.rows(), some), {.threads = threads}));
  }
}

/// Episodes drawn in advance, and the different images that occur in them: each needs to go through
/// an encoder only once.
class DrawnEpisodes {
 public:
  /// Samples 0 .. batch - 1 of batches 0 .. batches - 1 of the stream.
  DrawnEpisodes(const FewShotImages& episodes, Random::Stream stream, Index batches, Index batch,
                int threads)
      : support_steps_(episodes.support_steps()),
        shown_(static_cast<std::size_t>(batches * batch)),
        places_(static_cast<std::size_t>(episodes.set().images()), -1) {
    parallel_for(batches * batch, threads, [&](Index e, int) {
      Random random(stream, static_cast<std::uint64_t>(e / batch),
                    static_cast<std::uint64_t>(e % batch));
      DrawnEpisode episode;
      episodes.draw(random, episode);
      shown_[static_cast<std::size_t>(e)] = std::move(episode.steps);
    });
    for (const std::vector<ShownImage>& steps : shown_) {
      for (const ShownImage& one : steps) {
        Index& place = places_[static_cast<std::size_t>(one.image)];
        if (place >= 0) continue;
        place = static_cast<Index>(images_.size());
        images_.push_back(one.image);
      }
    }
  }

  Index count() const { return static_cast<Index>(shown_.size()); }  ///< batches * batch
  /// Steps of an episode before its queries.
  Index support_steps() const { return support_steps_; }
  /// The steps of episode e: sample e % batch of batch e / batch.
  const std::vector<ShownImage>& operator[](Index e) const {
    return shown_[static_cast<std::size_t>(e)];
  }

  /// @{
  /// The different images, and where an image that occurs stands among them.
  const std::vector<Index>& images() const { return images_; }
  Index place(Index image) const { return places_[static_cast<std::size_t>(image)]; }
  /// @}

 private:
  Index support_steps_;
  std::vector<std::vector<ShownImage>> shown_;
  std::vector<Index> images_;
  std::vector<Index> places_;
};

}  // namespace plastic
