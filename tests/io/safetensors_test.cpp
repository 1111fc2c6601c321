#include "plastic/io/safetensors.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/errors.hpp"
#include "support/files.hpp"

namespace {

using namespace plastic::testing;
using plastic::DType;
using plastic::Index;
using plastic::parse_safetensors;
using plastic::read_safetensors;
using plastic::safetensors_bytes;
using plastic::Tensor;
using plastic::TensorFile;
using plastic::write_safetensors;

std::string little_endian(std::uint64_t number) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(number >> (8 * i) & 0xff);
  return bytes;
}

std::string with_header(const std::string& header, std::size_t data_size = 0) {
  return little_endian(header.size()) + header + std::string(data_size, '\0');
}

// One F32 tensor called x.
std::string entry(const std::string& shape, const std::string& offsets,
                  const std::string& dtype = R"("F32")") {
  return R"({"x":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets +
         "}}";
}

std::span<const std::byte> as_bytes(const std::string& bytes) {
  return std::as_bytes(std::span(bytes));
}

template <class Scalar>
std::vector<Scalar> awkward_values() {
  using Limits = std::numeric_limits<Scalar>;
  return {Scalar(1),        Scalar(-0.0),       Scalar(1) / 3,        Limits::max(),
          Limits::min(),    Limits::epsilon(),  Limits::denorm_min(), Limits::infinity(),
          Limits::lowest(), Limits::quiet_NaN()};
}

}  // namespace

TEMPLATE_TEST_CASE("Tensors come back from a file as they went in", "[io][safetensors]", float,
                   double) {
  using Scalar = TestType;
  const Folder folder;
  const fs::path path = folder / "tensors.safetensors";
  const std::vector<Scalar> values = awkward_values<Scalar>();
  TensorFile file;
  file.metadata = {{"cell", "rnn"}, {"", ""}, {"quoted \"text\"\n", "\xc3\xa9\xe2\x82\xac\t\\"}};
  file.tensors["matrix"] = Tensor::from({2, 5}, values.data());
  file.tensors["vector"] = Tensor::from({10}, values.data());
  file.tensors["scalar"] = Tensor::from({}, values.data());
  file.tensors["empty"] = Tensor::from<Scalar>({3, 0, 4}, nullptr);
  file.tensors["\"odd\" \xce\xb1\n"] = Tensor::from({1, 1, 1, 3}, values.data());
  file.tensors[""] = Tensor(plastic::dtype_of<Scalar>(), {3});
  write_safetensors(path, file);

  const TensorFile back = read_safetensors(path);
  CHECK(back.metadata == file.metadata);
  REQUIRE(back.tensors.size() == file.tensors.size());
  for (const auto& [name, tensor] : file.tensors) {
    CAPTURE(name);
    const std::span<const Scalar> read = back.values<Scalar>(name, tensor.shape());
    CHECK(std::ranges::equal(std::as_bytes(read), tensor.bytes()));
    CHECK(back.tensor(name).dtype() == plastic::dtype_of<Scalar>());
  }
  CHECK(back.tensor("scalar").size() == 1);
  CHECK(back.tensor("empty").size() == 0);
  CHECK(back.tensor("matrix").bytes().size() == 10 * sizeof(Scalar));
}

TEST_CASE("Equal contents give equal bytes with all values at multiples of their size",
          "[io][safetensors]") {
  const Folder folder;
  for (std::size_t padding = 0; padding < 9; ++padding) {
    TensorFile file;
    file.metadata["text"] = std::string(padding, 'x');
    file.tensors["a"] = Tensor(DType::F32, {3});
    file.tensors["b"] = Tensor(DType::F64, {2});
    file.tensors["c"] = Tensor(DType::F32, {1});
    write_safetensors(folder / "one", file);
    write_safetensors(folder / "two", read_safetensors(folder / "one"));
    const std::string bytes = content(folder / "one");
    CHECK(bytes == content(folder / "two"));
    CHECK(bytes == safetensors_bytes(file));
    const std::size_t header = bytes.size() - 8 - 32;
    CHECK(header % 8 == 0);
    CHECK(bytes.substr(0, 8) == little_endian(header));
    CHECK(mentions(bytes, R"("b":{"data_offsets":[0,16],"dtype":"F64","shape":[2]})"));
    CHECK(mentions(bytes, R"("a":{"data_offsets":[16,28],"dtype":"F32","shape":[3]})"));
    CHECK(mentions(bytes, R"("c":{"data_offsets":[28,32],"dtype":"F32","shape":[1]})"));
  }
}

TEST_CASE("Tensors of other types are kept as they are, and refused to who asks for their values",
          "[io][safetensors]") {
  const Folder folder;
  TensorFile file;
  file.tensors["b"] = Tensor(DType::F32, {3});
  file.tensors["d"] = Tensor(DType::F64, {1});
  std::uint8_t next = 0;
  const std::vector<std::pair<std::string, std::size_t>> types{
      {"BOOL", 1}, {"U8", 1},   {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"I16", 2}, {"U16", 2},
      {"F16", 2},  {"BF16", 2}, {"I32", 4}, {"U32", 4},     {"I64", 8},     {"U64", 8}, {"C64", 8}};
  for (const auto& [type, width] : types) {
    plastic::OtherTensor& other = file.others["cnn." + type];
    other.dtype = type;
    other.shape = {3, 1};
    for (std::size_t k = 0; k < 3 * width; ++k) other.bytes.push_back(std::byte{next++});
  }
  file.others["counter"] = {"I64", {}, std::vector<std::byte>(8)};
  file.others["none"] = {"BF16", {2, 0}, {}};
  write_safetensors(folder / "one", file);
  const TensorFile back = read_safetensors(folder / "one");
  CHECK(back.tensors.size() == 2);
  REQUIRE(back.others.size() == file.others.size());
  for (const auto& [name, other] : file.others) {
    CAPTURE(name);
    const plastic::OtherTensor& read = back.others.at(name);
    CHECK(read.dtype == other.dtype);
    CHECK(read.shape == other.shape);
    CHECK(read.bytes == other.bytes);
    CHECK(rejection([&, tensor = name] { back.tensor(tensor); }) ==
          "TensorFile: the type of tensor \"" + name + "\" must be F32 or F64, got " + other.dtype);
  }
  write_safetensors(folder / "two", back);
  CHECK(content(folder / "one") == content(folder / "two"));

  file.others["short"] = {"I64", {2}, std::vector<std::byte>(8)};
  CHECK_THROWS_AS(safetensors_bytes(file), std::invalid_argument);
  file.others["short"] = {"I65", {1}, std::vector<std::byte>(8)};
  CHECK_THROWS_AS(safetensors_bytes(file), std::invalid_argument);
  file.others.erase("short");
  file.others["b"] = file.others["counter"];
  CHECK_THROWS_AS(safetensors_bytes(file), std::invalid_argument);
}

TEST_CASE("A file without tensors is valid", "[io][safetensors]") {
  const Folder folder;
  write_safetensors(folder / "empty", {});
  CHECK(content(folder / "empty") == with_header("{}      "));
  const TensorFile back = read_safetensors(folder / "empty");
  CHECK(back.metadata.empty());
  CHECK(back.tensors.empty());
  write_plainly(folder / "bare", with_header("{}"));
  CHECK(read_safetensors(folder / "bare").tensors.empty());
}

TEMPLATE_TEST_CASE("Tensors come back from memory at any address as they went in",
                   "[io][safetensors]", float, double) {
  const std::vector<TestType> values = awkward_values<TestType>();
  TensorFile file;
  file.metadata = {{"cell", "rnn"}};
  file.tensors["matrix"] = Tensor::from({2, 5}, values.data());
  file.tensors["empty"] = Tensor::from<TestType>({3, 0}, nullptr);
  const std::string bytes = safetensors_bytes(file);
  for (std::size_t shift = 0; shift < 8; ++shift) {
    const std::string shifted = std::string(shift, 'x') + bytes;
    const TensorFile back = parse_safetensors(as_bytes(shifted).subspan(shift));
    CHECK(back.metadata == file.metadata);
    CHECK(back.tensors.size() == 2);
    CHECK(std::ranges::equal(back.tensor("matrix").bytes(), file.tensor("matrix").bytes()));
    CHECK(safetensors_bytes(back) == bytes);
  }
  CHECK(error_of<std::runtime_error>([] { parse_safetensors({}); }) ==
        "parse_safetensors: the file must be at least 8 bytes long, got 0");
}

TEST_CASE("Every parity case reads, and comes back from a copy of itself", "[io][safetensors]") {
  const Folder folder;
  int files = 0;
  for (const fs::directory_entry& found : fs::directory_iterator(PLASTIC_TEST_DATA)) {
    if (found.path().extension() != ".safetensors") continue;
    ++files;
    CAPTURE(found.path().string());
    const TensorFile file = read_safetensors(found.path());
    const Index batch = std::stol(file.metadata.at("batch"));
    const Index steps = std::stol(file.metadata.at("steps"));
    const Index inputs = std::stol(file.metadata.at("inputs"));
    CHECK(file.values<double>("input", {batch, steps, inputs}).size() > 0);
    const double loss = file.values<double>("loss", {1})[0];
    CHECK(loss > 0);
    CHECK(loss < 1e6);

    write_safetensors(folder / "copy", file);
    const TensorFile copy = read_safetensors(folder / "copy");
    CHECK(copy.metadata == file.metadata);
    REQUIRE(copy.tensors.size() == file.tensors.size());
    for (const auto& [name, tensor] : file.tensors) {
      CHECK(std::ranges::equal(copy.values<double>(name, tensor.shape()), tensor.values<double>()));
    }
  }
  CHECK(files == 17);
}

TEST_CASE("Data at an odd place, unordered entries and unknown fields are read",
          "[io][safetensors]") {
  const Folder folder;
  const std::string header =
      R"({"b":{"shape":[1],"dtype":"F64","data_offsets":[4,12],"more":[1]},)"
      R"("e":{"shape":[0],"dtype":"F64","data_offsets":[4,4]},)"
      R"("f":{"shape":[0,9223372036854775807,9223372036854775807],"dtype":"F32",)"
      R"("data_offsets":[12,12]},)"
      R"("a":{"shape":[],"dtype":"F32","data_offsets":[0,4]}})";
  for (std::size_t padding = 0; padding < 8; ++padding) {
    const float a = 1.5F;
    const double b = -2.25;
    std::string bytes = with_header(header + std::string(padding, ' '));
    bytes.append(reinterpret_cast<const char*>(&a), sizeof a);
    bytes.append(reinterpret_cast<const char*>(&b), sizeof b);
    write_plainly(folder / "file", bytes);
    const TensorFile file = read_safetensors(folder / "file");
    CHECK(file.values<float>("a", {})[0] == a);
    CHECK(file.values<double>("b", {1})[0] == b);
    CHECK(file.tensor("e").size() == 0);
    CHECK(file.tensor("f").size() == 0);
  }
}

TEST_CASE("A bad file is refused with its name and what is wrong", "[io][safetensors]") {
  const std::string x = R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  const auto two = [](const std::string& first, const std::string& second) {
    return R"({"x":{"dtype":"F32","shape":[2],"data_offsets":)" + first +
           R"(},"y":{"dtype":"F32","shape":[2],"data_offsets":)" + second + "}}";
  };
  std::string many_ones;
  for (int i = 0; i < 1000; ++i) many_ones += ",1";
  const std::string below_two_to_64 = "18446744073709551615";
  struct Case {
    std::string bytes;
    std::string reason;
  };
  const std::vector<Case> cases = {
      {"", "at least 8 bytes long, got 0"},
      {"1234567", "at least 8 bytes long, got 7"},
      {little_endian(0), "the header must be a JSON object"},
      {little_endian(3) + "{}",
       "the header's length (its first 8 bytes, if this is a safetensors file) must be at most 2 "
       "bytes, got 3"},
      {little_endian(~std::uint64_t{0}) + "{}", "at most 2 bytes, got " + below_two_to_64},
      {little_endian(~std::uint64_t{0} - 7) + "{}", "at most 2 bytes, got 18446744073709551608"},
      {little_endian(std::uint64_t{1} << 63) + "{}", "got 9223372036854775808"},
      {with_header("[]"), "the header must be a JSON object"},
      {with_header("7"), "the header must be a JSON object"},
      {with_header(" {}"), "the header must be a JSON object"},
      {with_header("{"), "the header must be JSON"},
      {with_header("{} {}"), "the header must be JSON"},
      {with_header(std::string("{}\0", 3)), "the header must be JSON, got a zero byte"},
      {with_header("{\"\xff\":1}"), "the header must be JSON"},
      {with_header(R"({"x":{"dtype":"F32","shape":[1e999],"data_offsets":[0,4]}})", 4),
       "the header must be JSON"},
      {with_header(R"({"x":)" + std::string(100'000, '[')), "at most three levels deep"},
      {with_header(R"({"__metadata__":[]})"), "__metadata__ must be an object of strings, got []"},
      {with_header(R"({"__metadata__":{"a":1}})"), "must be an object of strings, got {\"a\":1}"},
      {with_header(R"({"__metadata__":null})"), "__metadata__ must be an object of strings"},
      {with_header(R"({"__metadata__":{"a":"","a":""}})"), "must be unique, got \"a\" twice"},
      {with_header(R"({"x":)" + x + R"(,"x":)" + x + "}", 4), "must be unique, got \"x\" twice"},
      {with_header(R"({"x":)" + x + R"(,"\u0078":)" + x + "}", 4), "got \"x\" twice"},
      {with_header(R"({"x":{"dtype":"F64","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4),
       "must be unique, got \"dtype\" twice"},
      {with_header(R"({"x":7})"), "tensor \"x\" must be an object with dtype"},
      {with_header(R"({"x":{"shape":[1],"data_offsets":[0,4]}})", 4), "with dtype, shape and"},
      {with_header(R"({"x":{"dtype":"F32","data_offsets":[0,4]}})", 4), "with dtype, shape and"},
      {with_header(R"({"x":{"dtype":"F32","shape":[1]}})", 4), "with dtype, shape and"},
      {with_header(entry("[2]", "[0,4]", R"("F31")"), 4),
       "the dtype of tensor \"x\" must be a type of the format that takes whole bytes, got "
       "\"F31\""},
      {with_header(entry("[8]", "[0,4]", R"("F4")"), 4), "that takes whole bytes, got \"F4\""},
      {with_header(entry("[1]", "[0,4]", "32"), 4), "that takes whole bytes, got 32"},
      {with_header(entry("[1]", "[0,4]", R"("I64")"), 4), "must be 8 bytes apart"},
      {with_header(entry("[3]", "[0,4]", R"("BF16")"), 4), "must be 6 bytes apart"},
      {with_header(entry("1", "[0,4]"), 4), "the shape of tensor \"x\" must be a list"},
      {with_header(entry("[-1]", "[0,4]"), 4), "the shape of tensor \"x\" must be a list"},
      {with_header(entry("[1.0]", "[0,4]"), 4), "the shape of tensor \"x\" must be a list"},
      {with_header(entry("[\"1\"]", "[0,4]"), 4), "the shape of tensor \"x\" must be a list"},
      {with_header(entry("[true]", "[0,4]"), 4), "the shape of tensor \"x\" must be a list"},
      {with_header(entry("[" + below_two_to_64 + "]", "[0,4]"), 4), "from 0 to 2^63 - 1"},
      {with_header(entry("[9" + below_two_to_64 + "]", "[0,4]"), 4), "from 0 to 2^63 - 1"},
      {with_header(entry("[9223372036854775807]", "[0,4]"), 4), "must be below 2^63 bytes"},
      {with_header(entry("[4294967296,4294967296]", "[0,0]")), "must be below 2^63 bytes"},
      {with_header(entry("[4611686018427387905]", "[0,4]"), 4), "must be below 2^63 bytes"},
      {with_header(entry("[1]", "[0,8]"), 4), "must be a range in the 4 bytes of data, got [0,8]"},
      {with_header(entry("[1]", "[4,8]"), 4), "must be a range in the 4 bytes of data, got [4,8]"},
      {with_header(entry("[1]", "[4,0]"), 4), "must be a range in the 4 bytes of data, got [4,0]"},
      {with_header(entry("[1]", "[0,4,4]"), 4), "must be a range in the 4 bytes of data"},
      {with_header(entry("[1]", "[4]"), 4), "must be a range in the 4 bytes of data"},
      {with_header(entry("[1]", "[-4,0]"), 4), "the data_offsets of tensor \"x\" must be a list"},
      {with_header(entry("[1]", "\"0,4\""), 4), "the data_offsets of tensor \"x\" must be a list"},
      {with_header(entry("[1]", "[0," + below_two_to_64 + "]"), 4), "a list of whole numbers"},
      {with_header(entry("[2,3]", "[0,20]"), 20), "must be 24 bytes apart for the shape [2,3]"},
      {with_header(entry("[]", "[0,8]"), 8), "must be 4 bytes apart for the shape []"},
      {with_header(entry("[0]", "[0,4]"), 4), "must be 0 bytes apart"},
      {with_header(entry("[1]", "[0,4]", R"("F64")"), 4), "must be 8 bytes apart"},
      {with_header(two("[0,8]", "[4,12]"), 12), "tensor \"y\" must be right after"},
      {with_header(two("[0,8]", "[0,8]"), 8), "got an overlap at byte 0"},
      {with_header(two("[12,20]", "[0,8]"), 20), "got a gap up to byte 12"},
      {with_header(entry("[1]", "[4,8]"), 8), "got a gap up to byte 4"},
      {with_header(entry("[1]", "[0,4]"), 5), "must be the 4 bytes of the tensors, got 5 bytes"},
      {with_header("{\"" + std::string(5000, 'x')), "the header must be JSON"},
      {with_header("{\"" + std::string(5000, 'x') + "\":1}"), "must be an object with dtype"},
      {with_header(entry("[8" + many_ones + "]", "[0,4]"), 4), "must be 32 bytes apart"},
      {with_header(entry("[9223372036854775807" + many_ones + "]", "[0,4]"), 4),
       "below 2^63 bytes"},
      {with_header("{}", 1), "must be the 0 bytes of the tensors, got 1 bytes"},
  };
  const Folder folder;
  const fs::path path = folder / "bad.safetensors";
  for (const Case& c : cases) {
    write_plainly(path, c.bytes);
    const std::string error = error_of<std::runtime_error>([&] { read_safetensors(path); });
    CAPTURE(c.reason, error);
    CHECK(mentions(error, "read_safetensors: cannot read " + path.string() + ": "));
    CHECK(mentions(error, c.reason));
    CHECK(error.size() < 500);
    CHECK("read_safetensors: cannot read " + path.string() +
              error_of<std::runtime_error>([&] {
                parse_safetensors(as_bytes(c.bytes));
              }).substr(std::string("parse_safetensors").size()) ==
          error);
  }
}

TEST_CASE("A file cut anywhere is refused", "[io][safetensors]") {
  const Folder folder;
  const fs::path path = folder / "cut.safetensors";
  TensorFile file;
  file.metadata["cell"] = "rnn";
  file.tensors["a"] = Tensor(DType::F32, {3});
  file.tensors["b"] = Tensor(DType::F64, {2});
  write_safetensors(path, file);
  const std::string bytes = content(path);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    write_plainly(path, std::string_view(bytes).substr(0, size));
    CAPTURE(size);
    CHECK(mentions(error_of<std::runtime_error>([&] { read_safetensors(path); }), path.string()));
    CHECK_THROWS_AS(parse_safetensors(as_bytes(bytes.substr(0, size))), std::runtime_error);
  }
}

TEST_CASE("A path that is no file to read is refused by name", "[io][safetensors]") {
  const Folder folder;
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  fs::create_directory(folder / "directory");
  struct Case {
    std::string name;
    std::string reason;
  };
  for (const Case& c :
       {Case{"none", "there is no such file"}, Case{"directory", "it is a directory"},
        Case{"pipe", "it is not a regular file"}}) {
    const fs::path path = folder / c.name;
    const std::string error = error_of<std::runtime_error>([&] { read_safetensors(path); });
    INFO(error);
    CHECK(mentions(error, "read_safetensors"));
    CHECK(mentions(error, path.string()));
    CHECK(mentions(error, c.reason));
  }
}

TEST_CASE("A header above 100 MB is refused before it is read", "[io][safetensors]") {
  const Folder folder;
  const fs::path path = folder / "large.safetensors";
  write_plainly(path, little_endian(100'000'001));
  fs::resize_file(path, 8 + 100'000'001);
  const std::string error = error_of<std::runtime_error>([&] { read_safetensors(path); });
  INFO(error);
  CHECK(mentions(error, "must be at most 100000000 bytes, got 100000001"));
}

TEST_CASE("What the format cannot hold is refused before the file is touched",
          "[io][safetensors]") {
  const Folder folder;
  const fs::path path = folder / "file";
  write_plainly(path, "old");
  TensorFile reserved;
  reserved.tensors["__metadata__"] = Tensor(DType::F32, {1});
  TensorFile name;
  name.tensors["\xff"] = Tensor(DType::F32, {1});
  TensorFile text;
  text.metadata["a"] = "\xc3";
  TensorFile large;
  large.metadata["a"] = std::string(100'000'000, 'x');
  struct Case {
    const TensorFile& file;
    std::string reason;
  };
  for (const Case& c :
       {Case{reserved, "must be other than __metadata__"}, Case{name, "must be UTF-8"},
        Case{text, "must be UTF-8"}, Case{large, "must be at most 100 MB"}}) {
    const std::string error =
        error_of<std::invalid_argument>([&] { write_safetensors(path, c.file); });
    INFO(error);
    CHECK(mentions(error, "write_safetensors: cannot write " + path.string()));
    CHECK(mentions(error, c.reason));
    CHECK(content(path) == "old");
    CHECK(files_in(folder.path()) == 1);
    CHECK(mentions(error_of<std::invalid_argument>([&] { safetensors_bytes(c.file); }),
                   "safetensors_bytes: "));
  }
}
