#include "plastic/image_files/image_data.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/errors.hpp"
#include "support/image_files.hpp"

using namespace plastic;
using namespace plastic::testing;

namespace {

template <class Call>
std::string refusal_of(const Call& call) {
  return error_of<std::runtime_error>(call);
}

// From interleaved channels to planes.
std::vector<std::uint8_t> planes(const std::vector<std::uint8_t>& pixels, std::size_t channels) {
  std::vector<std::uint8_t> result;
  for (std::size_t c = 0; c < channels; ++c) {
    for (std::size_t p = c; p < pixels.size(); p += channels) result.push_back(pixels[p]);
  }
  return result;
}

std::vector<std::uint8_t> image_of(const ImageSet& set, Index number) {
  return {set.image(number), set.image(number + 1)};
}

}  // namespace

TEST_CASE("A folder of PNG files is read to the last bit", "[image_files][image_data]") {
  const Folder folder;
  for (int k = 0; k < 3; ++k) {
    for (int image = 0; image < 4; ++image) {
      write_png(folder / ("c" + std::to_string(k)) / (std::to_string(image) + ".PNG"),
                pattern(k, image, 7, 5, 3), 7, 5, 3);
    }
  }
  write_plainly(folder.path() / "c1" / ".hidden", "no image");
  Index calls = 0, last = 0;
  const ImageSet set = read_image_folder(folder.path(), {"c2", "c0"},
                                         {.threads = 3, .progress = [&](Index done, Index all) {
                                            ++calls;
                                            last = done;
                                            CHECK(all == 8);
                                          }});
  CHECK(calls == 8);
  CHECK(last == 8);
  CHECK(set.shape == ImageShape{3, 5, 7});
  REQUIRE(set.classes.size() == 2);
  CHECK(set.classes[0].name == "c2");
  CHECK(set.classes[1].first == 4);
  CHECK(set.classes[1].count == 4);
  for (Index n = 0; n < 8; ++n) {
    CHECK(image_of(set, n) == planes(pattern(n < 4 ? 2 : 0, static_cast<int>(n % 4), 7, 5, 3), 3));
  }
}

TEST_CASE("Grey images have one channel, or three among colours, and lose their alpha",
          "[image_files][image_data]") {
  const Folder folder;
  write_png(folder / "grey" / "1.png", pattern(1, 1, 6, 4, 1), 6, 4, 1);
  write_png(folder / "alpha" / "1.png", pattern(1, 2, 6, 4, 2), 6, 4, 2);
  write_png(folder / "colour" / "1.png", pattern(1, 3, 6, 4, 4), 6, 4, 4);
  const ImageSet grey = read_image_folder(folder.path(), {"grey", "alpha"});
  CHECK(grey.shape.channels == 1);
  CHECK(image_of(grey, 0) == pattern(1, 1, 6, 4, 1));
  const ImageSet mixed = read_image_folder(folder.path(), {"grey", "colour"});
  CHECK(mixed.shape.channels == 3);
  std::vector<std::uint8_t> three;
  for (int c = 0; c < 3; ++c) {
    const auto plane = pattern(1, 1, 6, 4, 1);
    three.insert(three.end(), plane.begin(), plane.end());
  }
  CHECK(image_of(mixed, 0) == three);
  auto colours = planes(pattern(1, 3, 6, 4, 4), 4);
  colours.resize(72);
  CHECK(image_of(mixed, 1) == colours);
}

TEST_CASE("A JPEG file is read as its decoder reads it, and close to what was written",
          "[image_files][image_data]") {
  const Folder folder;
  std::vector<std::uint8_t> smooth;
  for (int p = 0; p < 16 * 16; ++p) smooth.push_back(static_cast<std::uint8_t>(p / 16 * 10));
  write_jpeg(folder / "c" / "1.jpeg", smooth, 16, 16, 1);
  const ImageSet set = read_image_folder(folder.path(), {"c"});
  const std::vector<std::uint8_t> got = image_of(set, 0);
  REQUIRE(got.size() >= smooth.size());
  for (std::size_t p = 0; p < smooth.size(); ++p) CHECK(std::abs(got[p] - smooth[p]) <= 3);
}

TEST_CASE("Split files by class, as those of CIFAR-FS, and by image, as those of miniImageNet",
          "[image_files][image_data]") {
  const Folder folder;
  write_data_set(folder.path(), 2, 3);
  const ImageSplits splits = load_image_data(folder.path().string());
  CHECK(splits.train.images() == 6);
  CHECK(splits.validation.classes[1].name == "class3");
  CHECK(splits.test.classes[0].name == "class4");
  CHECK(splits.train.normalisation.mean == Normalisation::mini_imagenet().mean);

  const Folder by_image;
  fs::create_directories(by_image / "splits");
  int number = 0;
  for (const char* split : {"train", "val", "test"}) {
    std::string csv = "filename,label\r\n";
    for (int k = 0; k < 4; ++k, ++number) {
      const std::string label = std::string(split) + std::to_string(k % 2);
      const std::string file = "n" + std::to_string(number) + ".png";
      // Some beside each other, some in a folder of their class.
      const fs::path images = by_image / "images";
      write_png((k < 2 ? images : images / label) / file, pattern(k, number, 32, 32, 3), 32, 32, 3);
      csv += file + "," + label + "\r\n";
    }
    write_plainly(by_image / "splits" / (std::string(split) + ".csv"), csv);
  }
  const ImageSplits read = load_image_data(by_image.path().string());
  REQUIRE(read.train.classes.size() == 2);
  CHECK(read.train.classes[1].name == "train1");
  CHECK(read.train.classes[1].count == 2);
  CHECK(image_of(read.train, 3) == planes(pattern(3, 3, 32, 32, 3), 3));
  CHECK(image_of(read.test, 0) == planes(pattern(0, 8, 32, 32, 3), 3));
  CHECK(read.test.normalisation.mean == Normalisation::cifar_fs().mean);
}

TEST_CASE("Sets of one channel are normalised by what the training images have",
          "[image_files][image_data]") {
  const Folder folder;
  for (const char* name : {"train", "val", "test"}) {
    for (int image = 0; image < 3; ++image) {
      write_png(folder / name / (std::to_string(image) + ".png"), pattern(name[0], image, 9, 9, 1),
                9, 9, 1);
    }
    write_plainly(folder / (std::string(name) + ".txt"), std::string(name) + "\n");
  }
  const ImageSplits splits = load_image_data(folder.path().string());
  const Normalisation n = splits.test.normalisation;
  double sum = 0, square = 0;
  for (const std::uint8_t v : splits.train.pixels) {
    const double x = (v / 255.0 - n.mean[0]) / n.deviation[0];
    sum += x;
    square += x * x;
  }
  const auto count = static_cast<double>(splits.train.pixels.size());
  CHECK(sum / count == Approx(0).margin(1e-9));
  CHECK(square / count == Approx(1));
}

TEST_CASE("What is wrong with a folder of images is said with the name of the file",
          "[image_files][image_data]") {
  const Folder folder;
  const auto read = [&](const std::vector<std::string>& classes) {
    return refusal_of([&] { read_image_folder(folder.path(), classes); });
  };
  write_png(folder / "good" / "1.png", pattern(0, 0, 8, 8, 3), 8, 8, 3);
  CHECK(read({"good"}) == "no error");
  CHECK(rejection([&] { read_image_folder(folder.path(), {"good"}, {.threads = 0}); }) ==
        "ImageFolderOptions: threads must be at least 1, got 0");
  CHECK(read({"good", "gone"}) == (folder / "gone").string() + ": there is no such class folder");

  fs::create_directories(folder / "empty");
  CHECK(read({"empty"}) == (folder / "empty").string() + ": there are no images in it");

  write_png(folder / "large" / "2.png", pattern(0, 0, 9, 8, 3), 9, 8, 3);
  CHECK(read({"good", "large"}) ==
        (folder.path() / "large" / "2.png").string() + ": it must have 8 x 8 pixels, as " +
            (folder.path() / "good" / "1.png").string() + " has, got 8 x 9");

  fs::create_directories(folder / "text");
  write_plainly(folder.path() / "text" / "1.png", "no image at all");
  CHECK(mentions(read({"text"}), (folder.path() / "text" / "1.png").string()));
  write_plainly(folder.path() / "text" / "readme.md", "# Images");
  CHECK(mentions(read({"text"}), "readme.md: a class folder may hold only"));

  write_jpeg(folder / "jpeg" / "1.jpg", pattern(0, 0, 24, 24, 3), 24, 24, 3);
  CHECK(read({"jpeg"}) == "no error");
  for (const char* name : {"jpeg/1.jpg", "good/1.png"}) {
    const std::string whole = content(folder / name);
    for (std::size_t size = 0; size < whole.size(); size += 1 + whole.size() / 60) {
      INFO(name << " cut to " << size << " of " << whole.size() << " bytes");
      write_plainly(folder / name, whole.substr(0, size));
      CHECK(mentions(read({fs::path(name).parent_path().string()}), name));
    }
    write_plainly(folder / name, whole);
  }

  write_png(folder / "good" / "2.png", pattern(0, 0, 8, 8, 3), 8, 8, 3);
  const auto change = [&](Index, Index) {
    write_png(folder / "good" / "2.png", pattern(0, 0, 90, 80, 3), 90, 80, 3);
  };
  CHECK(refusal_of([&] { read_image_folder(folder.path(), {"good"}, {.progress = change}); }) ==
        (folder.path() / "good" / "2.png").string() + ": it changed while it was being read");

  CHECK_THROWS_AS(read_image_folder(folder.path(), {}), std::invalid_argument);
  CHECK(mentions(refusal_of([] { load_image_data("/no/such/folder"); }), "/no/such/folder"));
}

TEST_CASE("What is wrong with split files is said with the name of the file",
          "[image_files][image_data]") {
  const Folder folder;
  write_data_set(folder.path(), 2, 2);
  const auto read = [&] { return refusal_of([&] { load_image_data(folder.path().string()); }); };
  const fs::path val = folder.path() / "splits" / "val.txt";
  const std::string good = content(val);
  CHECK(read() == "no error");
  write_plainly(val, "\n\n");
  CHECK(read() == val.string() + ": the split is empty");
  write_plainly(val, good + "class0\n");
  const std::string train = (folder.path() / "splits" / "train.txt").string();
  CHECK(read() == val.string() + ", line 3: the class class0 is already in " + train + ", line 1");
  write_plainly(val, "\nclass77\n");
  CHECK(read() == val.string() + ", line 2: there is no such class folder: " +
                      (folder.path() / "data" / "class77").string());
  fs::remove(val);
  CHECK(mentions(read(), val.string() + ": there is no such split file, and no val.csv either"));
  const fs::path csv = folder.path() / "splits" / "val.csv";
  write_plainly(csv, "file,class\n");
  CHECK(read() == csv.string() + ": its first line must be filename,label");
  write_plainly(csv, "filename,label\nclass2/0.png\n");
  CHECK(read() == csv.string() + ", line 2: it must be FILENAME,LABEL, got class2/0.png");
  for (const char* line : {",class2", "0.png,", " , "}) {
    write_plainly(csv, "filename,label\n\n0.png,class2\n" + std::string(line));
    CHECK(mentions(read(), csv.string() + ", line 4: it must be FILENAME,LABEL, got "));
  }
  write_plainly(csv, "filename,label\nnone.png,class2\n");
  CHECK(read() == csv.string() + ", line 2: neither " +
                      (folder.path() / "data" / "none.png").string() + " nor " +
                      (folder.path() / "data" / "class2" / "none.png").string() + " exists");
  write_plainly(csv, "filename,label\n" + std::string(5000, 'n') + ",class2\n");
  CHECK(mentions(read(), csv.string() + ", line 2: neither "));
  write_plainly(csv, "filename,label\n0.png,class1\n");
  CHECK(read() == csv.string() + ", line 2: the class class1 is already in " + train + ", line 2");
  write_plainly(csv, "filename,label\n0.png,class2\n");
  CHECK(read() == "no error");
}

TEST_CASE("Split files are read as spreadsheets and other systems write them",
          "[image_files][image_data]") {
  const std::string mark = "\xEF\xBB\xBF";
  const std::string lines = GENERATE(
      "filename,label\n0.png,x\n1.png,x\n", "filename,label\r\n0.png,x\r\n1.png,x\r\n",
      "filename,label\r0.png,x\r1.png,x", "filename,label \n\n 0.png , x\t\n\n1.png,x\v\n ");
  const std::string start = GENERATE_COPY(std::string(), mark);
  INFO(lines);
  const Folder folder;
  for (const std::string name : {"train", "val", "test"}) {
    std::string text = start + lines;
    for (std::size_t at = text.find(",x"); at != std::string::npos; at = text.find(",x")) {
      text.replace(at, 2, "," + name);
    }
    for (std::size_t at = text.find(", x"); at != std::string::npos; at = text.find(", x")) {
      text.replace(at, 3, ", " + name);
    }
    write_plainly(folder / (name + ".csv"), text);
    for (int k = 0; k < 2; ++k) {
      write_png(folder / name / (std::to_string(k) + ".png"), pattern(name[0], k, 5, 4, 1), 5, 4,
                1);
    }
  }
  // Classes a line, likewise.
  const Folder classes;
  fs::copy(folder.path(), classes.path(), fs::copy_options::recursive);
  write_plainly(classes / "val.txt", start + " val \r\n\r\n");
  for (const Folder* each : {&folder, &classes}) {
    const ImageSplits read = load_image_data(each->path().string());
    REQUIRE(read.validation.classes.size() == 1);
    CHECK(read.validation.classes[0].name == "val");
    CHECK(read.validation.classes[0].count == 2);
    CHECK(image_of(read.test, 1) == pattern('t', 1, 5, 4, 1));
  }
  write_plainly(folder / "val.csv", std::string("\xFF\xFE"
                                                "f\0i\0",
                                                6));
  CHECK(refusal_of([&] { load_image_data(folder.path().string()); }) ==
        (folder / "val.csv").string() +
            ": it must be text in UTF-8 or another byte encoding, got a zero byte");
}

TEST_CASE("Names of classes and images may be in any encoding", "[image_files][image_data]") {
  // UTF-8 that ends in what is a space elsewhere, Latin-1, Shift JIS, and spaces inside.
  const std::vector<std::string> names{"voil\xC3\xA0", "\xE9t\xE9\xA0", "\x83\x5C\x83\x7C",
                                       "two words", "\xE2\x80\x83wide\xE2\x80\x83"};
  const Folder folder;
  for (const std::string split : {"train", "val", "test"}) {
    std::string list = "filename,label\n";
    for (const std::string& name : names) {
      write_png(folder / (split + name) / (name + ".png"), pattern(1, 2, 5, 4, 1), 5, 4, 1);
      list += name + ".png," + split + name + "\n";
    }
    write_plainly(folder / (split + ".csv"), list);
  }
  const ImageSplits read = load_image_data(folder.path().string());
  std::vector<std::string> sorted;
  for (const std::string& name : names) sorted.push_back("val" + name);
  std::sort(sorted.begin(), sorted.end());
  REQUIRE(read.validation.classes.size() == sorted.size());
  for (std::size_t k = 0; k < sorted.size(); ++k) {
    CHECK(read.validation.classes[k].name == sorted[k]);
  }
}

TEST_CASE("An image that splits list twice is refused with file and line",
          "[image_files][image_data]") {
  const Folder folder;
  const fs::path root = folder.path();
  for (const char* split : {"train", "val", "test"}) {
    for (int k = 0; k < 3; ++k) {
      write_png(root / split / (split + std::to_string(k) + ".png"), pattern(split[0], k, 5, 4, 1),
                5, 4, 1);
    }
    write_plainly(root / (std::string(split) + ".csv"),
                  "filename,label\n" + std::string(split) + "0.png," + split + "\n");
  }
  const std::string train = (root / "train.csv").string(), val = (root / "val.csv").string();
  const auto read = [&] { return refusal_of([&] { load_image_data(root.string()); }); };
  CHECK(read() == "no error");
  const auto with = [&](const fs::path& list, const std::string& lines) {
    const std::string good = content(list);
    write_plainly(list, "filename,label\n" + lines);
    const std::string error = read();
    write_plainly(list, good);
    return error;
  };
  CHECK(with(train, "train0.png,train\ntrain1.png,train\n") == "no error");
  CHECK(with(train, "train1.png,train\n\ntrain1.png,train\n") ==
        train + ", line 4: the image train1.png is already in line 2");
  // Spelled otherwise, and under another class.
  for (const char* other : {"./train1.png", ".//train1.png", "../train/train1.png"}) {
    CHECK(with(train, "train1.png,train\n" + std::string(other) + ",train\n") ==
          train + ", line 3: the image " + other + " is already in line 2, as train1.png");
  }
  CHECK(with(train, "train1.png,train\ntrain/train1.png,more\n") ==
        train + ", line 3: the image train/train1.png is already in line 2, as train1.png");
  CHECK(with(train, "train1.png,train\n" + (root / "train/train1.png").string() + ",train\n") ==
        train + ", line 3: the image " + (root / "train/train1.png").string() +
            " is already in line 2, as train1.png");
  // Through links to the file and to its folder.
  fs::create_symlink("train1.png", root / "train/soft.png");
  fs::create_hard_link(root / "train/train1.png", root / "train/hard.png");
  fs::create_directory_symlink("train", root / "linked");
  for (const char* other : {"soft.png", "hard.png", "../linked/train1.png"}) {
    CHECK(with(train, "train1.png,train\n" + std::string(other) + ",train\n") ==
          train + ", line 3: the image " + other + " is already in line 2, as train1.png");
  }
  // One alone may be a link; the same bytes in two files are two images.
  CHECK(with(train, "soft.png,train\n") == "no error");
  fs::copy_file(root / "train/train1.png", root / "train/copy.png");
  CHECK(with(train, "train1.png,train\ncopy.png,train\n") == "no error");
  // In two splits.
  CHECK(with(val, "train/train0.png,val\n") ==
        val + ", line 2: the image train/train0.png is already in " + train +
            ", line 2, as train0.png");
  CHECK(with(val, "val1.png,val\nlinked/train0.png,val\n") ==
        val + ", line 3: the image linked/train0.png is already in " + train +
            ", line 2, as train0.png");
}

TEST_CASE("A class that splits list twice is refused with file and line",
          "[image_files][image_data]") {
  const Folder folder;
  write_data_set(folder.path(), 2, 2);
  const fs::path data = folder / "data", train = folder.path() / "splits" / "train.txt";
  const fs::path val = folder.path() / "splits" / "val.txt";
  const auto with = [&](const fs::path& list, const std::string& lines) {
    const std::string good = content(list);
    write_plainly(list, lines);
    const std::string error = refusal_of([&] { load_image_data(folder.path().string()); });
    write_plainly(list, good);
    return error;
  };
  CHECK(with(train, "class0\n\nclass1\nclass0\n") ==
        train.string() + ", line 4: the class class0 is already in line 1");
  fs::create_directory_symlink("class0", data / "linked");
  for (const std::string other : {"class0/", "./class0", "class1//../class0", "linked"}) {
    CHECK(with(train, "class0\n" + other + "\n") ==
          train.string() + ", line 2: the class " + other + " is already in line 1, as class0");
    CHECK(with(val, "class2\n" + other + "\n") == val.string() + ", line 2: the class " + other +
                                                      " is already in " + train.string() +
                                                      ", line 1, as class0");
  }
  // Two folders, and an image of one in the other.
  const std::string image = (data / "class0" / "0.png").string();
  for (const std::string other : {"class0", "class1", "class2"}) {
    const fs::path link = data / other / "9.png";
    fs::create_hard_link(image, link);
    const std::string error = with(train, "class0\nclass1\n");
    const std::string place =
        other == "class0"
            ? train.string() + ", line 1: the image " + link.string() + " is already here, as "
        : other == "class1"
            ? train.string() + ", line 2: the image " + link.string() + " is already in line 1, as "
            : val.string() + ", line 1: the image " + link.string() + " is already in " +
                  train.string() + ", line 1, as ";
    CHECK(error == place + image);
    fs::remove(link);
  }
  // A split of each kind.
  fs::remove(val);
  const fs::path csv = folder.path() / "splits" / "val.csv";
  write_plainly(csv, "filename,label\n0.png,class2\nclass0/0.png,class2\n");
  CHECK(refusal_of([&] { load_image_data(folder.path().string()); }) ==
        csv.string() + ", line 3: the image class0/0.png is already in " + train.string() +
            ", line 1, as " + image);
  // Without split files.
  const auto read = [&](const std::vector<std::string>& classes) {
    return refusal_of([&] { read_image_folder(data, classes); });
  };
  CHECK(read({"class0", "class0"}) == data.string() + ": the class class0 is already here");
  CHECK(read({"class0", "linked"}) ==
        data.string() + ": the class linked is already here, as class0");
  fs::create_symlink(image, data / "class1" / "9.png");
  CHECK(read({"class0", "class1"}) == data.string() + ": the image " +
                                          (data / "class1" / "9.png").string() +
                                          " is already here, as " + image);
}

TEST_CASE("CIFAR-100's binary version becomes CIFAR-FS", "[image_files][image_data]") {
  const Folder folder;
  write_cifar(folder.path());
  const ImageSplits splits = load_image_data(folder.path().string());
  CHECK(splits.train.classes.size() == 64);
  CHECK(splits.validation.classes.size() == 16);
  CHECK(splits.test.classes.size() == 20);
  CHECK(splits.train.images() == 192);
  CHECK(splits.test.shape == ImageShape{3, 32, 32});
  // The names above put the test classes first.
  CHECK(splits.test.classes[3].name == cifar_names()[3]);
  CHECK(splits.train.classes[5].name == cifar_names()[25]);
  const std::string train = cifar_records(2, 0), test = cifar_records(1, 2);
  const auto record = [](const std::string& bytes, std::size_t number) {
    return std::vector<std::uint8_t>(bytes.begin() + static_cast<long>(number * 3074 + 2),
                                     bytes.begin() + static_cast<long>((number + 1) * 3074));
  };
  const Index first = splits.train.classes[5].first;
  CHECK(splits.train.classes[5].count == 3);
  CHECK(image_of(splits.train, first) == record(train, 25));
  CHECK(image_of(splits.train, first + 1) == record(train, 125));
  CHECK(image_of(splits.train, first + 2) == record(test, 25));
}

TEST_CASE("What is wrong with CIFAR-100's files is said with the name of the file",
          "[image_files][image_data]") {
  const Folder folder;
  write_cifar(folder.path());
  const auto read = [&] { return refusal_of([&] { read_cifar100(folder.path()); }); };
  CHECK(read() == "no error");
  const auto with = [&](const char* name, const std::string& bytes) {
    const std::string good = content(folder / name);
    write_plainly(folder / name, bytes);
    const std::string error = read();
    write_plainly(folder / name, good);
    INFO(error);
    CHECK(mentions(error, (folder / name).string()));
    return error;
  };
  const std::string train = content(folder / "train.bin");
  CHECK(mentions(with("train.bin", train.substr(0, train.size() - 1)), "cut short"));
  with("test.bin", "");
  std::string bad = train;
  bad[3074 * 7 + 1] = 100;
  CHECK(mentions(with("train.bin", bad), "record 7 must be below 100, got 100"));
  std::string names = content(folder / "fine_label_names.txt");
  with("fine_label_names.txt", names + "more\n");
  names.replace(names.find("whale"), 5, "snail");
  with("fine_label_names.txt", names);
  names.replace(names.find("snail"), 5, "sloth");
  CHECK(mentions(with("fine_label_names.txt", names), "whale of CIFAR-FS is missing"));
  fs::remove(folder / "test.bin");
  CHECK(mentions(read(), "test.bin: there is no such file"));
}
