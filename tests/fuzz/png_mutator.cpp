// Makes the checksums of the chunks of a changed PNG file right: the decoder stops at a wrong one.

#include <zlib.h>

#include <cstddef>
#include <cstdint>

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t most, unsigned seed) {
  size = LLVMFuzzerMutate(data, size, most);
  constexpr std::size_t signature = 8, around = 12;  // length, name and checksum
  if (seed % 8 == 0 || size < signature || data[0] != 0x89) return size;
  for (std::size_t at = signature; at + around <= size;) {
    std::size_t length = 0;
    for (std::size_t k = 0; k < 4; ++k) length = length << 8 | data[at + k];
    if (length > size - at - around) break;
    const auto sum =
        static_cast<std::uint32_t>(::crc32(0, data + at + 4, static_cast<unsigned>(length + 4)));
    for (std::size_t k = 0; k < 4; ++k) {
      data[at + 8 + length + k] = static_cast<std::uint8_t>(sum >> (24 - 8 * k));
    }
    at += around + length;
  }
  return size;
}
