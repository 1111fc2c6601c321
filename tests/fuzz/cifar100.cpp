#include "input_files.hpp"
#include "plastic/image_files/image_data.hpp"
#include "readers.hpp"

namespace plastic::fuzz {
namespace {

std::string names() {
  std::string text;
  for (const std::string_view name : cifar_fs_validation_classes) text.append(name) += '\n';
  for (const std::string_view name : cifar_fs_test_classes) text.append(name) += '\n';
  for (int k = 0; k < 64; ++k) text += "other" + std::to_string(k) + '\n';
  return text;
}

std::string records(int count) {
  std::string bytes;
  for (int label = 0; label < count; ++label) {
    bytes += static_cast<char>(label / 5);
    bytes += static_cast<char>(label);
    bytes.append(3072, static_cast<char>(label));
  }
  return bytes;
}

// The first byte says which file the other bytes belong to.
void read(Bytes bytes) {
  static const Workplace folder;
  static const bool written = [] {
    folder.write("names/train.bin", records(1));
    folder.write("names/test.bin", records(100));
    folder.write("images/fine_label_names.txt", names());
    folder.write("images/test.bin", records(100));
    return true;
  }();
  if (!written || bytes.empty()) return;
  const bool are_names = bytes[0] == std::byte{'n'};
  folder.write(are_names ? "names/fine_label_names.txt" : "images/train.bin",
               text_of(bytes.subspan(1)));
  ImageSplits splits = read_cifar100(folder.path() / (are_names ? "names" : "images"));
  for (const ImageSet* set : splits.all()) {
    expect(
        set->images() > 0 && set->classes.back().first + set->classes.back().count == set->images(),
        "the classes have the images");
  }
}

std::vector<std::string> seeds() { return {"n" + names(), "i" + records(1), "i" + records(2)}; }

}  // namespace

const Reader cifar100{"cifar100", read, seeds};

}  // namespace plastic::fuzz
