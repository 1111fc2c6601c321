#pragma once

#include <algorithm>
#include <array>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "plastic/image_files/image_folder.hpp"

namespace plastic {

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
/// of train.bin and then those of test.bin, in the order of the files. `progress` hears of classes.
///
/// Throws std::runtime_error naming the file: one that is missing or cut short, a label out of
/// range, names that are not a hundred different ones or lack one of CIFAR-FS, a class without
/// images.
inline ImageSplits read_cifar100(const std::filesystem::path& folder,
                                 const ReadingProgress& progress = {}) {
  constexpr std::size_t classes = 100, image = std::size_t{3} * 32 * 32, record = 2 + image;
  const std::filesystem::path names_path = folder / "fine_label_names.txt";
  const std::vector<std::string> names = detail::read_lines(names_path);
  std::vector<std::string> sorted = names;
  std::sort(sorted.begin(), sorted.end());
  if (names.size() != classes || std::unique(sorted.begin(), sorted.end()) != sorted.end()) {
    detail::refuse_file(names_path, "it must have 100 different names, a line each");
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
                                    ": it has been cut short or is another file");
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
                          "there are no images of class " + names[k] + ", neither in test.bin");
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

}  // namespace plastic
