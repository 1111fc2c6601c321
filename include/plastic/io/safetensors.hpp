#pragma once

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <ios>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "plastic/core/atomic_file.hpp"
#include "plastic/core/tensor_file.hpp"

namespace plastic {

static_assert(std::endian::native == std::endian::little,
              "safetensors files are little-endian and are copied as they are");

namespace detail {

// The limit of the format's own implementation.
inline constexpr std::uint64_t longest_tensor_header = 100'000'000;

// Exclusive upper bound of sizes.
inline std::string index_limit() {
  return "2^" + std::to_string(std::numeric_limits<Index>::digits);
}

struct TensorEntry {
  std::string name;
  std::string dtype;
  std::vector<Index> shape;
  std::uint64_t begin;
  std::uint64_t end;
};

// Bytes per value; 0 if the format has no such type, or values of the type share bytes.
inline std::uint64_t tensor_type_width(const std::string& dtype) {
  const std::map<std::string, std::uint64_t> widths = {
      {"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"F8_E4M3", 1}, {"F8_E5M2", 1},
      {"C64", 8}, {"I64", 8}, {"I32", 4}, {"I16", 2},  {"I8", 1},      {"U64", 8},
      {"U32", 4}, {"U16", 2}, {"U8", 1},  {"BOOL", 1}};
  const auto found = widths.find(dtype);
  return found == widths.end() ? 0 : found->second;
}

// A header may be 100 MB long; messages quote only an excerpt.
inline std::string excerpt(const std::string& text) {
  constexpr std::size_t longest = 150;
  return text.size() <= longest ? text : text.substr(0, longest) + "...";
}

inline std::string excerpt(const nlohmann::json& value) {
  return excerpt(value.dump(-1, ' ', true));
}

[[noreturn]] inline void refuse(const std::string& part, const std::string& expected,
                                const std::string& got) {
  throw std::runtime_error(part + " must be " + expected + ", got " + got);
}

inline nlohmann::json parse_tensor_header(const std::string& text) {
  using nlohmann::json;
  using Event = json::parse_event_t;
  // The parser itself keeps the last of several equal keys.
  std::vector<std::set<std::string>> keys;
  const auto check = [&keys](int depth, Event event, const json& parsed) {
    if (depth > 2 && (event == Event::object_start || event == Event::array_start)) {
      refuse("the header", "at most three levels deep", "more");
    }
    if (event == Event::object_start) keys.emplace_back();
    if (event == Event::object_end) keys.pop_back();
    if (event == Event::key && !keys.back().insert(parsed.get<std::string>()).second) {
      refuse("every key of the header", "unique", excerpt(parsed) + " twice");
    }
    return true;
  };
  if (text.empty() || text.front() != '{') {
    refuse("the header", "a JSON object", "a first character other than {");
  }
  // The parser itself stops at a zero byte as if the text ended there.
  if (text.find('\0') != std::string::npos) refuse("the header", "JSON", "a zero byte");
  try {
    return json::parse(text, check);
  } catch (const json::exception& error) {
    refuse("the header", "JSON", excerpt(std::string(error.what())));
  }
}

inline std::vector<Index> read_sizes(const std::string& part, const nlohmann::json& value) {
  constexpr auto largest = static_cast<std::uint64_t>(std::numeric_limits<Index>::max());
  const auto is_size = [](const nlohmann::json& item) {
    return item.is_number_unsigned() && item.get<std::uint64_t>() <= largest;
  };
  if (!value.is_array() || !std::all_of(value.begin(), value.end(), is_size)) {
    refuse(part, "a list of whole numbers from 0 to " + index_limit() + " - 1", excerpt(value));
  }
  return value.get<std::vector<Index>>();
}

inline TensorEntry read_tensor_entry(const std::string& name, const nlohmann::json& value,
                                     std::uint64_t data_size) {
  const std::string tensor = "tensor " + excerpt(nlohmann::json(name));
  if (!value.is_object() || !value.contains("dtype") || !value.contains("shape") ||
      !value.contains("data_offsets")) {
    refuse(tensor, "an object with dtype, shape and data_offsets", excerpt(value));
  }
  const nlohmann::json& dtype = value["dtype"];
  const std::uint64_t width = dtype.is_string() ? tensor_type_width(dtype.get<std::string>()) : 0;
  if (width == 0) {
    refuse("the dtype of " + tensor, "a type of the format that takes whole bytes", excerpt(dtype));
  }
  const std::vector<Index> shape = read_sizes("the shape of " + tensor, value["shape"]);
  const std::optional<Index> count = value_count(shape);
  if (!count) {
    refuse("the size of " + tensor, "below " + index_limit() + " bytes",
           "the shape " + excerpt(value["shape"]));
  }

  const nlohmann::json& offsets = value["data_offsets"];
  const std::vector<Index> ends = read_sizes("the data_offsets of " + tensor, offsets);
  if (ends.size() != 2 || ends[0] > ends[1] || static_cast<std::uint64_t>(ends[1]) > data_size) {
    refuse("the data_offsets of " + tensor,
           "a range in the " + std::to_string(data_size) + " bytes of data", excerpt(offsets));
  }
  const auto begin = static_cast<std::uint64_t>(ends[0]), end = static_cast<std::uint64_t>(ends[1]);
  const std::uint64_t expected = static_cast<std::uint64_t>(*count) * width;
  if (end - begin != expected) {
    refuse("the data_offsets of " + tensor,
           std::to_string(expected) + " bytes apart for the shape " + excerpt(value["shape"]),
           excerpt(offsets));
  }
  return {name, dtype.get<std::string>(), shape, begin, end};
}

// Sorts the entries by position and checks that they fill the data without gap or overlap.
inline void order_tensor_entries(std::vector<TensorEntry>& entries, std::uint64_t data_size) {
  std::sort(entries.begin(), entries.end(), [](const TensorEntry& a, const TensorEntry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  std::uint64_t end = 0;
  for (const TensorEntry& entry : entries) {
    if (entry.begin != end) {
      refuse("the data of tensor " + excerpt(nlohmann::json(entry.name)),
             "right after the previous tensor, at byte " + std::to_string(end),
             (entry.begin < end ? "an overlap at byte " : "a gap up to byte ") +
                 std::to_string(entry.begin));
    }
    end = entry.end;
  }
  if (end != data_size) {
    refuse("the data", "the " + std::to_string(end) + " bytes of the tensors",
           std::to_string(data_size) + " bytes");
  }
}

// Parses the file of `size` bytes that read(span) delivers from the first byte on.
template <class Read>
TensorFile parse_tensor_file(std::uint64_t size, Read&& read) {
  std::uint64_t length = 0;
  if (size < sizeof(length)) refuse("the file", "at least 8 bytes long", std::to_string(size));
  read(std::as_writable_bytes(std::span(&length, 1)));
  const std::uint64_t rest = size - sizeof(length);
  if (length > rest || length > longest_tensor_header) {
    refuse("the header's length (its first 8 bytes, if this is a safetensors file)",
           "at most " + std::to_string(std::min(rest, longest_tensor_header)) + " bytes",
           std::to_string(length));
  }
  std::string text(static_cast<std::size_t>(length), ' ');
  read(std::as_writable_bytes(std::span(text)));

  TensorFile file;
  std::vector<TensorEntry> entries;
  const nlohmann::json header = parse_tensor_header(text);
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") {
      const auto is_text = [](const nlohmann::json& item) { return item.is_string(); };
      if (!value.is_object() || !std::all_of(value.begin(), value.end(), is_text)) {
        refuse(name, "an object of strings", excerpt(value));
      }
      file.metadata = value.template get<Settings>();
    } else {
      entries.push_back(read_tensor_entry(name, value, rest - length));
    }
  }
  order_tensor_entries(entries, rest - length);
  for (const TensorEntry& entry : entries) {
    if (entry.dtype == "F32" || entry.dtype == "F64") {
      const DType dtype = entry.dtype == "F32" ? DType::F32 : DType::F64;
      read(file.tensors.try_emplace(entry.name, dtype, entry.shape).first->second.bytes());
    } else {
      OtherTensor& other = file.others[entry.name] = {entry.dtype, entry.shape, {}};
      other.bytes.resize(static_cast<std::size_t>(entry.end - entry.begin));
      read(std::span(other.bytes));
    }
  }
  return file;
}

// The bytes of a file; throws std::invalid_argument in the name of `function`.
inline std::string tensor_file_bytes(const std::string& function, const TensorFile& file) {
  struct Part {
    std::uint64_t width;
    std::string_view name, dtype;
    std::span<const Index> shape;
    std::span<const std::byte> bytes;
  };
  std::vector<Part> parts;
  for (const auto& [name, tensor] : file.tensors) {
    const bool in_double = tensor.dtype() == DType::F64;
    parts.push_back({dtype_width(tensor.dtype()), name, in_double ? "F64" : "F32", tensor.shape(),
                     tensor.bytes()});
  }
  for (const auto& [name, other] : file.others) {
    const std::optional<Index> count = value_count(other.shape);
    const std::uint64_t width = tensor_type_width(other.dtype);
    if (width == 0 || !count || static_cast<std::uint64_t>(*count) * width != other.bytes.size() ||
        file.tensors.contains(name)) {
      reject(function, tensor_text(name),
             "unique, of a type of the format, with as many bytes as its shape needs",
             other.dtype + " " + shape_text(other.shape) + " of " +
                 std::to_string(other.bytes.size()) + " bytes");
    }
    parts.push_back({width, name, other.dtype, other.shape, other.bytes});
  }
  // Every value at a multiple of its size.
  std::sort(parts.begin(), parts.end(), [](const Part& a, const Part& b) {
    return a.width != b.width ? a.width > b.width : a.name < b.name;
  });
  nlohmann::json header = nlohmann::json::object();
  std::uint64_t end = 0;
  for (const Part& part : parts) {
    const std::uint64_t begin = end;
    end += part.bytes.size();
    header[std::string(part.name)] = {
        {"dtype", part.dtype}, {"shape", part.shape}, {"data_offsets", {begin, end}}};
  }
  if (header.contains("__metadata__")) {
    reject(function, "the name of a tensor", "other than __metadata__", "__metadata__");
  }
  if (!file.metadata.empty()) header["__metadata__"] = file.metadata;

  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::type_error& error) {
    reject(function, "every name and text", "UTF-8", error.what());
  }
  text.append((8 - text.size() % 8) % 8, ' ');
  const std::uint64_t length = text.size();
  if (length > longest_tensor_header) {
    reject(function, "the header", "at most 100 MB", std::to_string(length) + " bytes");
  }

  std::string bytes;
  bytes.reserve(static_cast<std::size_t>(sizeof(length) + length + end));
  const auto append = [&bytes](std::span<const std::byte> part) {
    bytes.append(reinterpret_cast<const char*>(part.data()), part.size());
  };
  append(std::as_bytes(std::span(&length, 1)));
  append(std::as_bytes(std::span(text)));
  for (const Part& part : parts) append(part.bytes);
  return bytes;
}

}  // namespace detail

/// Reads a safetensors file; see https://huggingface.co/docs/safetensors. Values may be anything,
/// NaN too. Tensors of other types than F32 and F64 are kept as bytes.
///
/// Throws std::runtime_error naming the file and what is wrong with it, and then returns no part of
/// it: a file that is missing, cut short or too long; a header that is not JSON, above 100 MB, or
/// has a key twice; a tensor whose type, shape and position do not fit each other and the file.
/// Needs memory for the header and the values; a header's claims are checked before memory is
/// allocated.
inline TensorFile read_safetensors(const std::filesystem::path& path) {
  namespace fs = std::filesystem;
  try {
    const fs::file_status status = fs::status(path);
    if (!fs::exists(status)) throw std::runtime_error("there is no such file");
    if (fs::is_directory(status)) throw std::runtime_error("it is a directory");
    if (!fs::is_regular_file(status)) throw std::runtime_error("it is not a regular file");
    const std::uint64_t size = fs::file_size(path);
    errno = 0;
    std::ifstream in(path, std::ios::binary);
    if (!in) throw std::runtime_error(std::generic_category().message(errno));
    return detail::parse_tensor_file(size, [&in](std::span<std::byte> bytes) {
      in.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
      if (!in) throw std::runtime_error("its bytes cannot be read to the end");
    });
  } catch (const std::runtime_error& error) {
    throw std::runtime_error("read_safetensors: cannot read " + path.string() + ": " +
                             error.what());
  }
}

/// The same from the bytes of a file in memory, at any address; copies the values.
inline TensorFile parse_safetensors(std::span<const std::byte> bytes) {
  try {
    return detail::parse_tensor_file(bytes.size(), [rest = bytes](std::span<std::byte> to) mutable {
      std::copy_n(rest.begin(), to.size(), to.begin());
      rest = rest.subspan(to.size());
    });
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(std::string("parse_safetensors: ") + error.what());
  }
}

/// The bytes of a safetensors file. Equal contents give equal bytes, on any machine: wide
/// types come first, then by name, so that every value lies at a multiple of its size.
///
/// Throws std::invalid_argument if a tensor is called __metadata__, a name or text is not UTF-8, or
/// the header would be above 100 MB. Needs memory for a copy of all values.
inline std::string safetensors_bytes(const TensorFile& file) {
  return detail::tensor_file_bytes("safetensors_bytes", file);
}

/// Writes safetensors_bytes(file) through write_file_atomically. Throws as either does, and touches
/// no file if it throws std::invalid_argument.
inline void write_safetensors(const std::filesystem::path& path, const TensorFile& file) {
  write_file_atomically(
      path, detail::tensor_file_bytes("write_safetensors: cannot write " + path.string(), file));
}

}  // namespace plastic
