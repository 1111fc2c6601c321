#include <filesystem>
#include <stdexcept>
#include <string>

#include "plastic/image_files/image_data.hpp"

int main() {
  try {
    plastic::read_image_folder(".", {"no_such_class"});
  } catch (const std::runtime_error& error) {
    return std::string(error.what()).find("no such class folder") == std::string::npos;
  }
  return 1;
}
