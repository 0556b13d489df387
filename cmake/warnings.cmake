# Warnings are errors on our code; libraries come in as SYSTEM.
add_library(graft_warnings INTERFACE)
target_compile_options(graft_warnings INTERFACE -Wall -Wextra -Wshadow -Wconversion -Werror)
if(GRAFT_SANITIZE)
  target_compile_options(graft_warnings INTERFACE -fsanitize=${GRAFT_SANITIZE} -fno-omit-frame-pointer -g)
  target_link_options(graft_warnings INTERFACE -fsanitize=${GRAFT_SANITIZE})
endif()
