#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "plastic/cells/options.hpp"
#include "plastic/io/safetensors.hpp"
#include "support/errors.hpp"
#include "support/files.hpp"
#include "support/process.hpp"

using namespace plastic::testing;
using plastic::DType;
using plastic::Index;
using plastic::read_safetensors;
using plastic::Tensor;
using plastic::TensorFile;
using plastic::write_safetensors;

namespace {

fs::path case_file(const std::string& name) {
  return fs::path(PLASTIC_TEST_DATA) / (name + ".safetensors");
}

Tensor to_float(const Tensor& tensor) {
  Tensor copy(DType::F32, tensor.shape());
  const auto from = tensor.values<double>();
  std::transform(from.begin(), from.end(), copy.values<float>().begin(),
                 [](double value) { return static_cast<float>(value); });
  return copy;
}

// Largest difference as a part of 1 + the largest magnitude expected; a NaN differs infinitely.
double difference(const Tensor& got, const Tensor& expected) {
  const std::vector<double> a = values_of(got), b = values_of(expected);
  double largest = 0, most = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    const double here = std::abs(a[i] - b[i]);
    if (!std::isfinite(here)) return std::numeric_limits<double>::infinity();
    most = std::max(most, here);
    largest = std::max(largest, std::abs(b[i]));
  }
  return most / (1 + largest);
}

// Every tensor of `expected` but input and target is in `got`, in its shape.
void check_tensors(const TensorFile& got, const TensorFile& expected, DType dtype,
                   double tolerance) {
  for (const auto& [name, tensor] : expected.tensors) {
    if (name == "input" || name == "target") continue;
    INFO(name);
    REQUIRE(got.tensors.contains(name));
    const Tensor& result = got.tensor(name);
    CHECK(result.dtype() == dtype);
    REQUIRE(result.shape() == tensor.shape());
    CHECK(difference(result, tensor) <= tolerance);
  }
}

}  // namespace

TEST_CASE("Replay computes every parity case in double and in float", "[programs][replay]") {
  const Folder folder;
  int cases = 0;
  for (const auto& entry : fs::directory_iterator(PLASTIC_TEST_DATA)) {
    if (entry.path().extension() != ".safetensors") continue;
    INFO(entry.path().filename());
    ++cases;
    const TensorFile in = read_safetensors(entry.path());
    const Ended ended = run_well("replay", {entry.path().string(), folder / "double"});
    CHECK(ended.out.empty());
    const TensorFile out = read_safetensors(folder / "double");
    check_tensors(out, in, DType::F64, 1e-10);
    CHECK(out.tensors.size() == in.tensors.size());
    for (const auto& [name, text] : in.metadata) {
      INFO(name);
      REQUIRE(out.metadata.contains(name));
      const std::string& got = out.metadata.at(name);
      CHECK((got == text || std::stod(got) == std::stod(text)));
    }

    TensorFile copy{.metadata = in.metadata, .tensors = {}};
    for (const auto& [name, tensor] : in.tensors) copy.tensors[name] = to_float(tensor);
    write_safetensors(folder / "copy", copy);
    run_well("replay", {folder / "copy", folder / "float"});
    check_tensors(read_safetensors(folder / "float"), in, DType::F32, 1e-4);
  }
  CHECK(cases == 17);
  CHECK(names_in(folder.path()) == std::vector<std::string>{"copy", "double", "float"});
}

TEST_CASE("Replay computes a large batch as it does a small one", "[programs][replay]") {
  const Folder folder;
  constexpr Index times = 7;
  TensorFile in = read_safetensors(case_file("rnn_gradient"));
  for (auto& [name, tensor] : in.tensors) {
    if (name.starts_with("param.") || name.starts_with("grad.") || name == "loss") continue;
    const std::vector<double> once = values_of(tensor);
    std::vector<double> all;
    for (Index i = 0; i < times; ++i) all.insert(all.end(), once.begin(), once.end());
    std::vector<Index> shape = tensor.shape();
    shape[0] *= times;
    tensor = Tensor::from(shape, all.data());
  }
  in.metadata["batch"] = std::to_string(in.tensor("input").shape()[0]);
  REQUIRE(in.metadata["batch"] == "21");
  write_safetensors(folder / "in", in);
  run_well("replay", {folder / "in", folder / "out"});
  check_tensors(read_safetensors(folder / "out"), in, DType::F64, 1e-10);
}

TEST_CASE("Replay without a target gives outputs but no loss and no gradients",
          "[programs][replay]") {
  const Folder folder;
  for (const std::string name : {"rnn_gradient", "lstm_hebbian_layer_norm_uniform", "rnn_none"}) {
    INFO(name);
    TensorFile in = read_safetensors(case_file(name));
    in.tensors.erase("target");
    for (auto at = in.tensors.begin(); at != in.tensors.end();) {
      at = at->first.starts_with("grad.") || at->first == "loss" ? in.tensors.erase(at) : ++at;
    }
    write_safetensors(folder / "in", in);
    run_well("replay", {folder / "in", folder / "out"});
    const TensorFile out = read_safetensors(folder / "out");
    check_tensors(out, in, DType::F64, 1e-10);
    CHECK(out.tensors.size() == in.tensors.size());
  }
}

TEST_CASE("Replay may write over its input", "[programs][replay]") {
  const Folder folder;
  const TensorFile in = read_safetensors(case_file("rnn_hebbian"));
  write_safetensors(folder / "model", in);
  for (int times = 0; times < 2; ++times) {  // nothing that it needs is lost
    run_well("replay", {folder / "model", folder / "model"});
    check_tensors(read_safetensors(folder / "model"), in, DType::F64, 1e-10);
  }
}

TEST_CASE("Replay refuses a file that is no model file and leaves its output alone",
          "[programs][replay]") {
  const Folder folder;
  const std::string whole = content(case_file("rnn_gradient"));
  const std::string in = folder / "in", out = folder / "out";
  write_plainly(out, "an older result");
  const auto refuses = [&](const std::vector<std::string>& parts) {
    check_refusal("replay", {in, out}, parts);
    CHECK(content(out) == "an older result");
  };
  refuses({in, "no such file"});
  for (const std::size_t size : {std::size_t{0}, std::size_t{7}, std::size_t{8}, std::size_t{100},
                                 whole.size() / 2, whole.size() - 1}) {
    INFO(size << " of " << whole.size() << " bytes");
    write_plainly(in, std::string_view(whole).substr(0, size));
    refuses({in, "must be"});
  }
  write_plainly(in, whole + "x");
  refuses({in, "must be"});
  write_plainly(in, "Dear reader,\nthis is a letter and not a network.\n");
  refuses({in, "the header's length"});
  // Lengths and sizes that nothing backs.
  const std::string tensor = R"({"input":{"dtype":"F64","shape":[4000000000,1000,5],)";
  const std::string header = tensor + R"("data_offsets":[0,160000000000000]}})";
  for (const auto length : {std::uint64_t{header.size()}, ~std::uint64_t{0}, std::uint64_t{1} << 40,
                            std::uint64_t{1} << 20}) {
    INFO("a header of " << length << " bytes");
    std::string bytes(8, '\0');
    std::memcpy(bytes.data(), &length, sizeof(length));
    write_plainly(in, bytes + header);
    refuses({in, "must be"});
  }
  CHECK(names_in(folder.path()) == std::vector<std::string>{"in", "out"});

  fs::remove(in);
  fs::create_directory(in);
  refuses({in, "directory"});
}

TEST_CASE("Replay refuses a model that does not fit itself and says what is wrong",
          "[programs][replay]") {
  const Folder folder;
  const std::string in = folder / "in", out = folder / "out";
  write_plainly(out, "an older result");
  const auto refuses = [&](const std::string& name, const auto& change,
                           const std::vector<std::string>& parts) {
    TensorFile file = read_safetensors(case_file(name));
    change(file);
    write_safetensors(in, file);
    std::vector<std::string> all{in};
    all.insert(all.end(), parts.begin(), parts.end());
    check_refusal("replay", {in, out}, all);
    CHECK(content(out) == "an older result");
    CHECK(names_in(folder.path()) == std::vector<std::string>{"in", "out"});
  };

  SECTION("numbers") {
    const auto refuses_setting = [&](const std::string& setting, const std::string& text) {
      refuses("rnn_gradient", [&](TensorFile& f) { f.metadata[setting] = text; }, {setting});
    };
    for (const std::string text : {"nan", "inf", "-inf", "-0.1", "1e999", "1e300", "garbage", "",
                                   " 0.1", "0.1 ", "0,1", "0.1x"}) {
      refuses_setting("eta0", text);
    }
    for (const std::string setting : {"decay0", "max_norm", "weight_clip", "inner_scale"}) {
      refuses_setting(setting, "nan");
      refuses_setting(setting, "inf");
      refuses_setting(setting, "-1");
    }
    refuses_setting("max_norm", "0");
    for (const std::string text : {"0", "-7", "7.5", "7e0", "nan", "", "9223372036854775808"}) {
      refuses_setting("hidden", text);
    }
    refuses_setting("inputs", "0");
    refuses_setting("outputs", "0");
    refuses_setting("extra", "-1");
    refuses_setting("seed", "-1");
    refuses_setting("modulation", "yes");
    refuses_setting("layer_norm", "1");
    refuses_setting("alpha_mode", "some");
    refuses_setting("batch", "4");
    refuses_setting("steps", "1000000000000");
    refuses("rnn_gradient", [](TensorFile& f) { f.metadata.erase("hidden"); },
            {"hidden", "missing"});
  }

  SECTION("sizes far beyond the file") {
    for (const std::string cell : {"rnn_gradient", "lstm_hebbian"}) {
      for (const std::string size : {"8", "1000000"}) {
        refuses(cell, [&](TensorFile& f) { f.metadata["hidden"] = size; },
                {"param.in_fc.weight", "[5, " + size + "]", "[5, 7]"});
        refuses(cell, [&](TensorFile& f) { f.metadata["inputs"] = size; },
                {"param.in_fc.weight", "[" + size + ", 7]", "[5, 7]"});
        refuses(cell, [&](TensorFile& f) { f.metadata["extra"] = size; },
                {"param.out_fc.weight", "[7, 6]"});
      }
      for (const std::string size : {"1000000000000", "4611686018427387904"}) {
        for (const std::string name : {"hidden", "inputs", "extra"}) {
          refuses(cell, [&](TensorFile& f) { f.metadata[name] = size; }, {name, size});
        }
      }
    }
  }

  SECTION("kinds") {
    refuses("rnn_gradient", [](TensorFile& f) { f.metadata["rule"] = "oja"; },
            {"rule",
             "gradient, hebbian, none, trace, modulated, retroactive, fast_weights, delta, stpn or "
             "abcd",
             "oja"});
    refuses("rnn_gradient", [](TensorFile& f) { f.metadata["cell"] = "gru"; },
            {"cell", "rnn or lstm", "gru"});
    refuses("rnn_gradient", [](TensorFile& f) { f.metadata.clear(); },
            {"missing from the metadata"});
    refuses("rnn_gradient", [](TensorFile& f) { f.metadata["rule"] = "none"; }, {"_alpha"});
    refuses("rnn_gradient", [](TensorFile& f) { f.metadata["cell"] = "lstm"; },
            {"param.h_fc.weight", "[7, 28]", "[7, 7]"});
    refuses("rnn_none", [](TensorFile& f) { f.metadata["rule"] = "hebbian"; },
            {"param.in_fc.weight_alpha"});
    refuses("rnn_gradient", [](TensorFile& f) { f.metadata["layer_norm"] = "true"; },
            {"param.layer_norm.weight"});
  }

  SECTION("tensors") {
    const auto replace = [](const std::string& name, std::vector<Index> shape,
                            DType dtype = DType::F64) {
      return [=](TensorFile& f) { f.tensors[name] = Tensor(dtype, shape); };
    };
    for (const std::string name : {"weights", "inputs", "Param.x", "param.in_fc.gain", "param."}) {
      refuses("rnn_gradient", replace(name, {1}), {name});
    }
    refuses("rnn_gradient", replace("param.in_fc.weight", {7, 5}),
            {"param.in_fc.weight", "[5, 7]", "[7, 5]"});
    refuses("rnn_gradient", replace("param.h_fc.bias", {1, 7}), {"param.h_fc.bias", "[7]"});
    refuses("rnn_gradient", replace("param.out_scale", {0}), {"param.out_scale", "[6]"});
    refuses("rnn_gradient", replace("param.h_fc.bias", {7}, DType::F32),
            {"param.h_fc.bias", "F64"});
    refuses("rnn_gradient", replace("target", {3, 6, 2}, DType::F32), {"target", "F64"});
    refuses("rnn_gradient", replace("target", {3, 6, 3}), {"target", "[3, 6, 2]", "[3, 6, 3]"});
    refuses("rnn_gradient", replace("target", {2, 6, 2}), {"target", "[3, 6, 2]", "[2, 6, 2]"});
    refuses("rnn_gradient", replace("input", {3, 6, 4}), {"input", "[3, 6, 5]", "[3, 6, 4]"});
    refuses("rnn_gradient", replace("input", {18, 5}), {"input", "[18, 5]"});
    refuses("rnn_gradient", replace("input", {0, 6, 5}), {"input", "[0, 6, 5]"});
    refuses("rnn_gradient", replace("input", {3, 0, 5}), {"input", "[3, 0, 5]"});
    for (const std::string name : {"param.in_fc.weight", "param.h_fc.bias_alpha", "param.out_scale",
                                   "param.i_fc.bias", "input"}) {
      refuses("rnn_gradient", [&](TensorFile& f) { f.tensors.erase(name); }, {name});
    }
  }
}

TEST_CASE("Replay refuses an output that it cannot write", "[programs][replay]") {
  const Folder folder;
  const std::string in = case_file("rnn_gradient");
  check_refusal("replay", {in, folder / "missing/out"}, {folder / "missing/out", "No such file"});
  fs::create_directory(folder / "folder");
  check_refusal("replay", {in, folder / "folder"}, {folder / "folder", "directory"});
  if (fs::exists("/dev/full")) check_refusal("replay", {in, "/dev/full"}, {"/dev/full"});
  CHECK(names_in(folder.path()) == std::vector<std::string>{"folder"});
  CHECK(fs::is_empty(folder / "folder"));

  check_refusal("replay", {}, {"IN"});
  check_refusal("replay", {in}, {"OUT"});
  check_refusal("replay", {in, folder / "out", "third"}, {"third"});
  check_refusal("replay", {"--fast", in, folder / "out"}, {"--fast"});
  CHECK_FALSE(fs::exists(folder / "out"));
}

TEST_CASE("A full disk leaves an older result of replay as it was", "[programs][replay]") {
  const Folder folder;
  const SmallDisk disk(folder.path());
  if (!disk.mounted()) {
    WARN("not tested: this user may not mount a small disk");
    return;
  }
  write_plainly(folder / "out", "an older result");
  write_plainly(folder / "fill", std::string(48'000, 'x'));
  check_refusal("replay", {case_file("lstm_gradient"), folder / "out"},
                {folder / "out", "No space left on device"});
  CHECK(content(folder / "out") == "an older result");
  CHECK(names_in(folder.path()) == std::vector<std::string>{"fill", "out"});
  fs::remove(folder / "fill");
  run_well("replay", {case_file("lstm_gradient"), folder / "out"});
}
