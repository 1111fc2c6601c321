#pragma once

#include <algorithm>
#include <array>
#include <filesystem>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "plastic/core/parallel.hpp"
#include "plastic/image_files/detail/splits.hpp"
#include "plastic/image_files/image_file.hpp"
#include "plastic/images/glyphs.hpp"
#include "plastic/images/image_set.hpp"

namespace plastic {

/// Called by one thread at a time, with the number of images (for CIFAR-100, classes) that have
/// been read so far and the number in all.
using ReadingProgress = std::function<void(Index done, Index all)>;

/// Options of reading images. Readers throw std::invalid_argument unless threads is positive.
struct ImageFolderOptions {
  int threads = 1;                ///< threads that decode; the result does not depend on it
  ReadingProgress progress = {};  ///< progress callback; may be empty
};

namespace detail {

inline ImageSet read_images(const ClassFiles& classes, const ImageFolderOptions& options) {
  check_positive("ImageFolderOptions", "threads", options.threads);
  ImageSet set;
  std::vector<std::filesystem::path> files;
  for (const auto& [name, of_class] : classes) {
    set.classes.push_back(
        {name, static_cast<Index>(files.size()), static_cast<Index>(of_class.size())});
    files.insert(files.end(), of_class.begin(), of_class.end());
  }
  const auto count = static_cast<Index>(files.size());
  // Grey files among colours become three equal channels: all headers are needed first.
  std::vector<ImageShape> shapes(files.size());
  parallel_for(count, options.threads, [&](Index k, int) {
    const auto at = static_cast<std::size_t>(k);
    shapes[at] = ImageFile(files[at]).shape;
  });
  set.shape = shapes.front();
  for (std::size_t k = 0; k < files.size(); ++k) {
    set.shape.channels = std::max(set.shape.channels, shapes[k].channels);
    if (shapes[k].height != set.shape.height || shapes[k].width != set.shape.width) {
      const auto text = [](const ImageShape& s) {
        return std::to_string(s.height) + " x " + std::to_string(s.width);
      };
      refuse_file(files[k], "it must have " + text(set.shape) + " pixels, as " +
                                files.front().string() + " has, got " + text(shapes[k]));
    }
  }
  set.pixels.resize(static_cast<std::size_t>(count * set.shape.size()));
  std::mutex mutex;
  Index done = 0;
  parallel_for(count, options.threads, [&](Index k, int) {
    const std::filesystem::path& path = files[static_cast<std::size_t>(k)];
    const ImageFile file(path);
    if (file.shape != shapes[static_cast<std::size_t>(k)]) {
      refuse_file(path, "it changed while it was being read");
    }
    file.decode(path, set.shape.channels, set.pixels.data() + k * set.shape.size());
    if (!options.progress) return;
    const std::lock_guard lock(mutex);
    options.progress(++done, count);
  });
  return set;
}

}  // namespace detail

/// The images of some classes: root/CLASS/IMAGE.png, .jpg or .jpeg, class after class and in the
/// order of their names. A class may be a path of several folders, as "Greek/character01". All must
/// have the same size; grey ones have one channel, or three where others have colours.
///
/// What a file is depends on its bytes, PNG or JPEG, not on its name. Pixels are those of libpng
/// and libjpeg: palettes become colours, 1, 2 and 4 bits become 8, 16 bits become their upper 8;
/// alpha, PNG's gamma and colour profile, and a camera's orientation tag are ignored. An image may
/// have at most 2^28 pixels.
///
/// Throws std::runtime_error naming the folder or file: a class that is missing, empty or there
/// twice; a file that is neither PNG nor JPEG (but for hidden ones), is there twice, through links
/// too, or is of another size; one that is damaged: a checksum of PNG or zlib that is wrong, a
/// warning of libpng or libjpeg, a missing end, or bytes past the end of a PNG (those past the end
/// of a JPEG are ignored); a JPEG of four channels (CMYK). Throws std::invalid_argument if
/// `classes` is empty.
inline ImageSet read_image_folder(const std::filesystem::path& root,
                                  const std::vector<std::string>& classes,
                                  const ImageFolderOptions& options = {}) {
  if (classes.empty()) {
    throw std::invalid_argument("read_image_folder: classes must hold at least one name, got none");
  }
  return detail::read_images(detail::ImageLists(root).of_classes(classes), options);
}

/// Images in three splits, by the files train, val and test in `splits`: either .txt with one class
/// per line, whose images are in root/CLASS, or .csv with the header filename,label and one image
/// per line, root/LABEL/FILENAME or else root/FILENAME. Such are CIFAR-FS (root cifar100/data,
/// splits cifar100/splits/bertinetto) and miniImageNet as they are distributed. Names are bytes in
/// any encoding; a byte order mark of UTF-8, white space around a name and empty lines do not
/// count.
///
/// The normalisation is that of CIFAR-FS or miniImageNet where there are three channels, by the
/// size of 32 or another, else that of the training images. Throws std::runtime_error as
/// read_image_folder does, and for a split that is missing or empty, or splits of different sizes;
/// with the number of the line for one that is not FILENAME,LABEL, an image or class that is not
/// there, or one that another line of any split has too, by whatever name or link.
inline ImageSplits read_image_splits(const std::filesystem::path& root,
                                     const std::filesystem::path& splits,
                                     const ImageFolderOptions& options = {}) {
  namespace fs = std::filesystem;
  std::array<fs::path, 3> paths;
  std::array<detail::ClassFiles, 3> lists;
  detail::ImageLists images(root);
  for (std::size_t k = 0; k < 3; ++k) {
    constexpr std::array<const char*, 3> names{"train", "val", "test"};
    const fs::path text = splits / (std::string(names[k]) + ".txt");
    const fs::path csv = splits / (std::string(names[k]) + ".csv");
    const bool is_text = fs::exists(text);
    if (!is_text && !fs::exists(csv)) {
      detail::refuse_file(
          text, "there is no such split file, and no " + csv.filename().string() + " either");
    }
    paths[k] = is_text ? text : csv;
    lists[k] = is_text ? images.of_text(text) : images.of_csv(csv);
    if (lists[k].empty()) detail::refuse_file(paths[k], "the split is empty");
  }
  ImageSplits result;
  const std::vector<ImageSet*> sets = result.all();
  for (std::size_t k = 0; k < 3; ++k) {
    *sets[k] = detail::read_images(lists[k], options);
    if (sets[k]->shape != sets[0]->shape) {
      detail::refuse_file(paths[k], "its images must be " + detail::shape_text(sets[0]->shape) +
                                        ", as in the training split, got " +
                                        detail::shape_text(sets[k]->shape));
    }
  }
  const ImageShape& shape = result.train.shape;
  const Normalisation normalisation = shape.channels != 3 ? measure_normalisation(result.train)
                                      : shape.height == 32 && shape.width == 32
                                          ? Normalisation::cifar_fs()
                                          : Normalisation::mini_imagenet();
  for (ImageSet* set : sets) set->normalisation = normalisation;
  return result;
}

/// @{
/// The classes of CIFAR-100 that CIFAR-FS has in its validation split and in its test split; all
/// others are for training. Source: Bertinetto et al., "Meta-learning with differentiable
/// closed-form solvers", ICLR 2019.
inline constexpr std::array<std::string_view, 16> cifar_fs_validation_classes{
    "beaver", "beetle",     "butterfly",  "camel", "cattle", "crab",  "crocodile",  "flatfish",
    "lamp",   "maple_tree", "motorcycle", "otter", "sea",    "shark", "television", "tractor"};
inline constexpr std::array<std::string_view, 20> cifar_fs_test_classes{
    "baby",         "bed",       "bicycle",  "chimpanzee", "fox",   "leopard", "man",
    "pickup_truck", "plain",     "poppy",    "rocket",     "rose",  "snail",   "sweet_pepper",
    "table",        "telephone", "wardrobe", "whale",      "woman", "worm"};
/// @}

/// CIFAR-FS from the binary version of CIFAR-100: train.bin, test.bin (records of a coarse label, a
/// fine label and 3 x 32 x 32 pixels) and fine_label_names.txt in `folder`. A class has its images
/// of train.bin and then those of test.bin, in the order of the files. `progress` counts classes.
///
/// Throws std::runtime_error naming the file: one that is missing or cut short, a label out of
/// range, names that are not a hundred different ones or lack one of CIFAR-FS, a class without
/// images.
inline ImageSplits read_cifar100(const std::filesystem::path& folder,
                                 const ReadingProgress& progress = {}) {
  constexpr std::size_t classes = 100, image = std::size_t{3} * 32 * 32, record = 2 + image;
  const std::filesystem::path names_path = folder / "fine_label_names.txt";
  std::vector<std::string> names;
  for (const detail::TextLine& line : detail::read_lines(names_path)) names.push_back(line.text);
  std::vector<std::string> sorted = names;
  std::sort(sorted.begin(), sorted.end());
  if (names.size() != classes || std::unique(sorted.begin(), sorted.end()) != sorted.end()) {
    detail::refuse_file(names_path, "it must have 100 different names, one per line");
  }
  const auto expect = [&](std::string_view name) {
    if (!std::binary_search(sorted.begin(), sorted.end(), name)) {
      detail::refuse_file(names_path, "class " + std::string(name) + " of CIFAR-FS is missing");
    }
  };
  std::for_each(cifar_fs_validation_classes.begin(), cifar_fs_validation_classes.end(), expect);
  std::for_each(cifar_fs_test_classes.begin(), cifar_fs_test_classes.end(), expect);

  std::vector<std::vector<std::uint8_t>> pixels(classes);
  for (const char* name : {"train.bin", "test.bin"}) {
    const std::filesystem::path path = folder / name;
    const std::vector<std::uint8_t> bytes = detail::read_file(path);
    if (bytes.empty() || bytes.size() % record != 0) {
      detail::refuse_file(path, "it must have records of " + std::to_string(record) +
                                    " bytes, got " + std::to_string(bytes.size()) +
                                    ": it has been cut short or is a file of another kind");
    }
    for (std::size_t at = 0; at < bytes.size(); at += record) {
      const std::size_t label = bytes[at + 1];
      if (label >= classes) {
        detail::refuse_file(path, "the fine label of record " + std::to_string(at / record) +
                                      " must be below 100, got " + std::to_string(label));
      }
      const auto begin = bytes.begin() + static_cast<std::ptrdiff_t>(at + 2);
      pixels[label].insert(pixels[label].end(), begin, begin + image);
    }
  }

  ImageSplits splits;
  for (ImageSet* set : splits.all()) {
    set->shape = {3, 32, 32};
    set->normalisation = Normalisation::cifar_fs();
  }
  const auto contains = [](const auto& list, std::string_view name) {
    return std::find(list.begin(), list.end(), name) != list.end();
  };
  for (std::size_t k = 0; k < classes; ++k) {
    if (pixels[k].empty()) {
      detail::refuse_file(folder / "train.bin",
                          "there are no images of class " + names[k] + " here or in test.bin");
    }
    ImageSet& set = contains(cifar_fs_validation_classes, names[k]) ? splits.validation
                    : contains(cifar_fs_test_classes, names[k])     ? splits.test
                                                                    : splits.train;
    set.classes.push_back({names[k], set.images(), static_cast<Index>(pixels[k].size() / image)});
    set.pixels.insert(set.pixels.end(), pixels[k].begin(), pixels[k].end());
    if (progress) progress(static_cast<Index>(k + 1), classes);
  }
  return splits;
}

/// The drawn characters of make_glyphs in three splits, of 800, 100 and 200 classes with 20 images
/// each.
inline ImageSplits glyph_splits(Index size = 28, int threads = 1) {
  const auto glyphs = [&](Index first, Index classes) {
    return make_glyphs(
        {.classes = classes, .size = size, .first_class = first, .threads = threads});
  };
  return {glyphs(0, 800), glyphs(800, 100), glyphs(900, 200)};
}

/// Images by name: `glyphs`; a folder with train.bin, CIFAR-100's binary version; or a folder of
/// images with split files (read_image_splits), where the images are in its folder data or images
/// or in itself, and the split files in splits/bertinetto, splits or in itself, whichever comes
/// first. Throws std::runtime_error as those functions do.
inline ImageSplits load_image_data(const std::string& name,
                                   const ImageFolderOptions& options = {}) {
  namespace fs = std::filesystem;
  if (name == "glyphs") return glyph_splits(28, options.threads);
  const fs::path folder = name;
  if (!fs::is_directory(folder)) detail::refuse_file(folder, "there is no such image folder");
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
