#pragma once

#include <filesystem>

#include "plastic/image_files/cifar100.hpp"
#include "plastic/image_files/image_folder.hpp"
#include "plastic/images/glyphs.hpp"

namespace plastic {

/// The drawn characters in three splits, of 800, 100 and 200 classes with 20 images each.
inline ImageSplits glyph_splits(Index size = 28, int threads = 1) {
  const auto glyphs = [&](Index first, Index classes) {
    return make_glyphs(
        {.classes = classes, .size = size, .first_class = first, .threads = threads});
  };
  return {glyphs(0, 800), glyphs(800, 100), glyphs(900, 200)};
}

/// Images by a name: `glyphs`; a folder with train.bin, CIFAR-100's binary version; or a folder of
/// images with split files (read_image_splits), where the images are in its folder data or images
/// or in itself, and the split files in splits/bertinetto, splits or in itself, whichever comes
/// first. Throws std::runtime_error as those functions do.
inline ImageSplits load_image_data(const std::string& name,
                                   const ImageFolderOptions& options = {}) {
  namespace fs = std::filesystem;
  if (name == "glyphs") return glyph_splits(28, options.threads);
  const fs::path folder = name;
  if (!fs::is_directory(folder)) detail::refuse_file(folder, "there is no such folder of images");
  if (fs::exists(folder / "train.bin")) return read_cifar100(folder, options.progress);
  const auto first_of = [&](const std::vector<const char*>& parts) {
    fs::path found = folder;
    for (const char* part : parts) {
      if (found == folder && fs::is_directory(folder / part)) found = folder / part;
    }
    return found;
  };
  return read_image_splits(first_of({"data", "images"}), first_of({"splits/bertinetto", "splits"}),
                           options);
}

}  // namespace plastic
